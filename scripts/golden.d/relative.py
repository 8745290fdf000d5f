"""Makes the times of a dump relative to when it is loaded, and leaves out what a dump says besides its rows."""

import datetime
import re
import sys

engine, shop = sys.argv[1:]
now = datetime.datetime.now(datetime.timezone.utc).isoformat(sep=" ", timespec="microseconds")
print(f"-- What a version stored whose newest migrations were {engine} of the engine and {shop} of the shop.")
print("-- Written by scripts/golden; the times count from when it is loaded.")
print("create function pg_temp.at(text) returns timestamptz language sql as")
print(f"    $$ select $1::timestamptz + (now() - timestamptz '{now}') $$;")
TIME = re.compile(r"'(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?\+00)'")
inside = False
for line in sys.stdin:
    if not inside and not re.match(r"(INSERT INTO|SELECT pg_catalog.setval)", line):
        continue
    sys.stdout.write(TIME.sub(r"pg_temp.at('\1')", line))
    inside = not line.endswith(");\n")
