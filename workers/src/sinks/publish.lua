-- Adds events to a stream if its newest entry is the expected one. KEYS: the stream. ARGV: series, last confirmed event,
-- oldest event kept, event after which the series began, last entry of the previous series or nothing, maximum length; then
-- event id, routing key, key, time and payload of each event. Entry ids are <series>-<event id>.
local stream = KEYS[1]
local series, after, refill_after, started_after, previous, max_len = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
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
  -- The stream has nothing of this series, which begins or was lost. The events before it are there if the last entry of
  -- the previous series is; otherwise they are published again, from the oldest that would be kept.
  local is_there = previous ~= '' and #redis.call('XRANGE', stream, previous, previous) > 0
  if is_there and tonumber(started_after) > tonumber(refill_after) then
    refill_after = started_after
  end
  if tonumber(after) > tonumber(refill_after) then
    return {'lacks', refill_after}
  end
elseif tonumber(top) < tonumber(after) then
  return {'lacks', top}
elseif tonumber(top) > tonumber(after) then
  -- The caller compares the newest entry with its log.
  local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  local fields = {}
  if newest and newest[1] == top_series .. '-' .. top then
    for i = 1, #newest[2], 2 do
      fields[newest[2][i]] = newest[2][i + 1]
    end
  end
  return {'ahead', top, fields['at'] or '', fields['routing_key'] or '', fields['key'] or ''}
end
for i = 7, #ARGV, 5 do
  redis.call('XADD', stream, 'MAXLEN', '~', max_len, series .. '-' .. ARGV[i], 'event_id', ARGV[i],
    'routing_key', ARGV[i + 1], 'key', ARGV[i + 2], 'at', ARGV[i + 3], 'payload', ARGV[i + 4])
end
return {'confirmed'}
