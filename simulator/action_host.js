'use strict';
// Runs Actions one after the other, in a process of their own. Reads one JSON object from standard input and answers one as the last line
// of standard output: {check} compiles a piece of code, {actions, event} runs the post-login handlers of `actions`.
const fs = require('node:fs');
const vm = require('node:vm');
const { createRequire } = require('node:module');

const CONSOLE_CHARACTERS = 256; // of all that an Action prints; Auth0 keeps no more
const HANDLER = 'onExecutePostLogin';

function compile(name, code) {
  return vm.compileFunction(code, ['exports', 'require', 'module'], { filename: `${name}.js` });
}

// What is not modelled fails loudly: an Action that seems to work here must not fail at Auth0 for what was skipped.
function modelled(path, members) {
  return new Proxy(members, {
    get(target, name) {
      if (name in target || typeof name === 'symbol' || name === 'then' || name === 'toJSON') return target[name];
      throw new Error(`${path}.${name} is not simulated`);
    },
  });
}

function claims(path, into, back) {
  return modelled(path, {
    setCustomClaim(name, value) {
      if (value === undefined) delete into[String(name)];
      else into[String(name)] = JSON.parse(JSON.stringify(value));
      return back();
    },
  });
}

function metadata(into, back) {
  return (name, value) => {
    into[String(name)] = value === undefined ? null : JSON.parse(JSON.stringify(value));
    return back();
  };
}

function makeApi(outcome) {
  const back = () => api;
  const api = modelled('api', {
    access: modelled('api.access', {
      deny(reason) {
        outcome.denied = String(reason);
        return api;
      },
    }),
    accessToken: claims('api.accessToken', outcome.access_claims, back),
    idToken: claims('api.idToken', outcome.id_claims, back),
    user: modelled('api.user', {
      setAppMetadata: metadata(outcome.app_metadata, back),
      setUserMetadata: metadata(outcome.user_metadata, back),
    }),
  });
  return api;
}

function listenTo(outcome, name) {
  let left = CONSOLE_CHARACTERS;
  const print = (...words) => {
    const text = words.map((word) => (typeof word === 'string' ? word : JSON.stringify(word))).join(' ').slice(0, left);
    left -= text.length;
    if (text) outcome.console.push(`${name}: ${text}`);
  };
  for (const level of ['log', 'info', 'warn', 'error', 'debug', 'trace']) console[level] = print;
}

async function run({ actions, event }) {
  const outcome = { denied: null, error: null, access_claims: {}, id_claims: {}, app_metadata: {}, user_metadata: {}, console: [], ran: [] };
  for (const action of actions) {
    outcome.ran.push(action.name);
    listenTo(outcome, action.name);
    try {
      const module = { exports: {} };
      compile(action.name, action.code)(module.exports, createRequire(__filename), module);
      if (typeof module.exports[HANDLER] !== 'function') throw new Error(`exports.${HANDLER} is not a function`);
      const own = { ...structuredClone(event), secrets: { ...action.secrets } };
      await module.exports[HANDLER](own, makeApi(outcome));
    } catch (error) {
      outcome.error = error instanceof Error ? error.message : String(error);
    }
    if (outcome.error !== null || outcome.denied !== null) break;
  }
  return outcome;
}

async function main() {
  const asked = JSON.parse(fs.readFileSync(0, 'utf8'));
  if (asked.check === undefined) return run(asked);
  try {
    compile('action', asked.check);
    return { error: null };
  } catch (error) {
    return { error: `${error.name}: ${error.message}` };
  }
}

main().then((answer) => {
  fs.writeSync(1, `\n${JSON.stringify(answer)}`);
  process.exit(0); // whatever an Action left running
});
