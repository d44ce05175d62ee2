-- The budget of one bucket: how much may be asked of Auth0 now, by whom, and when again.
--
-- KEYS[1]  the bucket's hash: "state" (packed), and plain counters for `understudy status`
-- ARGV[1]  what to do, one of the functions in `actions` below; ARGV[3...] are its arguments
-- ARGV[2]  the bucket's terms as JSON: burst (tokens), rate (tokens per second),
--          classes (highest priority first): {name, share, cushion}
-- now      the clock, in seconds, set by the line before this text
--
-- One level holds all tokens, so that what is granted over any time t is at most burst + rate * t.
-- Who gets them when there are too few:
--   * Each class earns credit at its share of the rate, whatever the others do. Credit is a right, not a token.
--   * A class that was refused and said it would come back waits for one token until its claim lapses.
--   * With credit, a class yields only to those who have credit too and have waited longer.
--   * Without, it yields to every waiting class above it, and to those below it that have credit; and it leaves
--     a cushion, so that mass work alone gets the whole rate but never the last of the burst.
-- A missing state (first start, Redis wiped) begins empty.

local terms = cjson.decode(ARGV[2])
local classes = terms.classes

local ALMOST = 1e-6       -- rounding must not make a caller wait for a millionth of a token
local HOLD = 2            -- seconds that a place is kept beyond the wait its holder was told
local CREDIT_CAP = 2      -- tokens; above one, so that credit goes on growing while its owner is on the way
local LONGEST_PAUSE = 300 -- seconds; a state that lies further ahead comes from another clock and is dropped
local LEARNT_FOR = 600    -- seconds that a limit lower than expected is believed

local packed = redis.call('HGET', KEYS[1], 'state')
local state = packed and cmsgpack.unpack(packed)
if not state or state.at > now + LONGEST_PAUSE then
  state = {at = now, level = 0, credit = {}, waiting = {}, pauses = {}, failures = 0}
  for i = 1, #classes do
    state.credit[i] = 0
  end
end

local burst = terms.burst
if state.limit and state.limit_until > now then
  burst = math.min(burst, state.limit)
end

-- Time passes. `at` lies ahead of now during a pause of the whole bucket: nothing is earned until it ends.
local passed = math.max(0, now - state.at)
state.at = math.max(state.at, now)
state.level = math.min(burst, state.level + terms.rate * passed)
for i, class in ipairs(classes) do
  local cap = math.max(CREDIT_CAP, class.share * burst)
  state.credit[i] = math.min(cap, (state.credit[i] or 0) + class.share * terms.rate * passed)
  local place = state.waiting[class.name]
  if place and place.till < now then
    state.waiting[class.name] = nil
  end
end

local function rank(name)
  for i, class in ipairs(classes) do
    if class.name == name then
      return i
    end
  end
  error('no such class: ' .. name)
end

-- Tokens that class i must leave to others: with credit of its own, and without.
local function owed(i)
  local mine = state.waiting[classes[i].name]
  local since = mine and mine.since or now
  local with_credit, without = 0, classes[i].cushion * (burst - 1)
  for j, class in ipairs(classes) do
    local place = state.waiting[class.name]
    if j ~= i and place then
      local entitled = state.credit[j] + ALMOST >= 1
      if entitled and place.since < since then
        with_credit = with_credit + 1
      end
      if entitled or j < i then
        without = without + 1
      end
    end
  end
  return with_credit, without
end

local function whole(tokens)
  return math.max(0, math.floor(tokens + ALMOST))
end

-- The longest pause that concerns `group`: its end and its reason.
local function pause_of(group)
  local till, why = now, ''
  for name, pause in pairs(state.pauses) do
    if pause.till <= now then
      state.pauses[name] = nil
    elseif (name == '*' or name == group) and pause.till > till then
      till, why = pause.till, pause.why
    end
  end
  return till, why
end

local function pause(name, seconds, why)
  local till = now + math.min(seconds, LONGEST_PAUSE)
  local known = state.pauses[name]
  if not known or known.till < till then
    state.pauses[name] = {till = till, why = why}
  end
  if name == '*' then
    -- Whoever comes first afterwards finds one token, not a burst: the tenant is asked carefully.
    state.level = math.min(state.level, 1)
    state.at = math.max(state.at, till)
  end
end

local function text(number)
  return string.format('%.6f', number)
end

local actions = {}

-- group, class, wanted, "1" to keep a place when refused -> granted, wait, paused, reason, level left, failures
function actions.take(group, class, wanted, keep)
  local i = rank(class)
  wanted = tonumber(wanted)
  local till, why = pause_of(group)
  if till > now then
    return {'0', text(till - now), text(till - now), why, text(state.level), tostring(state.failures)}
  end
  local with_credit, without = owed(i)
  local granted = math.min(wanted, whole(state.credit[i]), whole(state.level - with_credit))
  granted = granted + math.min(wanted - granted, whole(state.level - without - granted))
  state.level = state.level - granted
  state.credit[i] = math.max(0, state.credit[i] - granted)
  if granted > 0 then
    state.waiting[class] = nil
    redis.call('HINCRBY', KEYS[1], 'spent:' .. class, granted)
  end
  if granted == wanted then
    return {tostring(granted), text(0), text(0), '', text(state.level), tostring(state.failures)}
  end
  local by_credit = math.max((1 - state.credit[i]) / (classes[i].share * terms.rate), (1 + with_credit - state.level) / terms.rate)
  local by_plenty = (1 + without <= burst + ALMOST) and (1 + without - state.level) / terms.rate or math.huge
  local wait = math.max(0.001, math.min(by_credit, by_plenty)) + math.max(0, state.at - now)
  if granted == 0 and keep == '1' then
    local place = state.waiting[class] or {since = now}
    place.till = now + wait + HOLD
    state.waiting[class] = place
  end
  return {tostring(granted), text(wait), text(0), 'spent', text(state.level), tostring(state.failures)}
end

-- group -> level, burst, rate, paused, reason, failures
function actions.look(group)
  local till, why = pause_of(group)
  return {text(state.level), text(burst), text(terms.rate), text(till - now), why, tostring(state.failures)}
end

-- class, tokens: granted but not used
function actions.give_back(class, tokens)
  local i = rank(class)
  tokens = tonumber(tokens)
  state.level = math.min(burst, state.level + tokens)
  state.credit[i] = math.min(math.max(CREDIT_CAP, classes[i].share * burst), state.credit[i] + tokens)
  redis.call('HINCRBY', KEYS[1], 'spent:' .. class, -tokens)
  return {}
end

-- tokens, class: used without having been granted ("unasked": a call repeated with a fresh token), or booked ahead by a class
function actions.charge(tokens, class)
  state.level = math.max(-burst, state.level - tonumber(tokens))
  if class ~= 'unasked' then
    local i = rank(class)
    state.credit[i] = state.credit[i] - tonumber(tokens)
  end
  redis.call('HINCRBY', KEYS[1], 'spent:' .. class, tokens)
  return {}
end

-- remaining, limit (ours already: Auth0's numbers times our share; "" where not told): an answer that was no failure
function actions.heard(remaining, limit)
  state.failures = 0
  remaining, limit = tonumber(remaining), tonumber(limit)
  if limit and limit < terms.burst then
    state.limit, state.limit_until = math.max(1, limit), now + LEARNT_FOR
    state.level = math.min(state.level, state.limit)
  end
  if remaining and remaining < state.level then
    state.level = remaining
  end
  return {}
end

-- group ("*": the whole bucket), seconds, reason -> seconds until the pause ends
function actions.pause(group, seconds, why)
  pause(group, tonumber(seconds), why)
  return {text(pause_of(group) - now)}
end

-- group, the reason of a pause that stays -> the reason of the one that ended: the group's own, not the whole bucket's
function actions.resume(group, but)
  local ended = state.pauses[group]
  if not ended or ended.till <= now or ended.why == but then
    return {''}
  end
  state.pauses[group] = nil
  return {ended.why}
end

-- seconds ("" where Auth0 does not say), jitter 0..1, reason, cap -> seconds until the pause ends
-- Failures heard during a pause were sent before it: they don't make it longer.
function actions.back_off(seconds, jitter, why, cap)
  redis.call('HINCRBY', KEYS[1], 'heard:' .. why, 1)
  if pause_of('*') <= now or seconds ~= '' then
    local told = tonumber(seconds)
    if not told then
      told = 2 ^ math.min(state.failures, 30)
      state.failures = state.failures + 1
    end
    told = math.min(told + tonumber(jitter) * math.min(1, told / 4), tonumber(cap))
    pause('*', told, why)
    if why == 'throttled' then
      state.level = math.min(state.level, 0)
    end
  end
  return {text(pause_of('*') - now)}
end

local arguments = {}
for i = 3, #ARGV do
  arguments[i - 2] = ARGV[i]
end
local result = actions[ARGV[1]](unpack(arguments))
redis.call('HSET', KEYS[1], 'state', cmsgpack.pack(state))
redis.call('EXPIRE', KEYS[1], 604800)
return result
