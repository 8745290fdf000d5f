-- Adds events to a stream if it stands where we think. KEYS: the stream. ARGV: series, after, floor, the longest length,
-- then event id, routing key, key, time and payload of each event. Entry ids are <series>-<event id>.
local stream, series, after, floor, longest = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local top_series, top = '0', '0'
if redis.call('EXISTS', stream) == 1 then
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      top_series, top = string.match(info[i + 1], '^(%d+)-(%d+)$')
    end
  end
end
if tonumber(top_series) > tonumber(series) then
  return {'foreign', top_series}
end
if tonumber(top_series) < tonumber(series) then
  -- It has nothing of ours: it is new, or was wiped. What is older than the floor it would not keep.
  if tonumber(after) > tonumber(floor) then
    return {'holds', floor}
  end
elseif tonumber(top) ~= tonumber(after) then
  return {'holds', top}
end
for i = 5, #ARGV, 5 do
  redis.call('XADD', stream, 'MAXLEN', '~', longest, series .. '-' .. ARGV[i], 'event_id', ARGV[i],
    'routing_key', ARGV[i + 1], 'key', ARGV[i + 2], 'at', ARGV[i + 3], 'payload', ARGV[i + 4])
end
return {'confirmed', after}
