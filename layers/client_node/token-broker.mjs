/**
 * Valid access tokens of third-party APIs from the token broker, for Node.js 20 or newer. One file, no dependencies.
 *
 *     import { TokenBroker } from "./token-broker.mjs";
 *
 *     const users = new TokenBroker().connection("unidy", "eu-main", { scope: "users:read" });
 *     const response = await users.fetch("https://id.example.com/api/users");
 *
 * Make it once, outside the handler: it keeps tokens and connections. It does what the Python library does: a token is
 * kept until its renewal, at most 5 min; many callers make one request; a valid token is used while the broker fails; a
 * rejected token is reported once. Times are seconds of the local clock, counted from before the request was sent.
 */
import { createHash, createHmac } from "node:crypto";

const DEADLINE_S = 30;
const FIRST_RESPONSE_S = 5; // how long a broker that has never responded is tried: its URL may be wrong
const SUCCESSOR_WAIT_S = 5; // how long a caller with a valid token waits for the next one
const MAX_RECHECK_S = 300; // the longest time without asking the broker: a suspension or a purge is noticed
const MIN_RECHECK_S = 5;
const DEFAULT_MIN_TTL_S = 30; // the broker's default
const FAILED_REPORT_PAUSE_S = 30;
const FIRST_PAUSE_S = 0.5;
const LONGEST_PAUSE_S = 4;
const INCIDENT_GAP_S = 2 * MAX_RECHECK_S; // failures closer together than this are one incident
const BROKER_ERRORS = ["broker_unavailable", "gateway_timeout", "internal_error", "throttled"]; // they concern everyone
const USER_AGENT = "token-broker-client-node/0.1.0";
const REGION_IN_HOST = /\.execute-api\.([a-z0-9-]+)\.(?:vpce\.)?amazonaws\.com(?:\.cn)?$/;
const BEARER_ERROR = /\bbearer\b.*?\berror\s*=\s*"?([a-z_]+)/i;
const PRINTABLE = /^[\x20-\x7e]+$/;

/** There is no token. No error holds anything secret. */
export class TokenBrokerError extends Error {
  get name() {
    return this.constructor.name;
  }
}

/** No URL, region or AWS credentials, or none now: no request was sent. */
export class ClientNotConfigured extends TokenBrokerError {}

/** No response in time. */
export class BrokerUnreachable extends TokenBrokerError {}

/** The broker's error. `code` is stable, docs/errors.md lists it. `retryAfter`: seconds, where waiting helps. */
export class BrokerRefused extends TokenBrokerError {
  constructor(status, problem, retryAfter) {
    const code = String(problem.code ?? "unknown");
    const detail = String(problem.detail ?? "");
    super(`${status} ${code}: ${detail}`);
    Object.assign(this, { status, code, detail, retryAfter, problem });
  }

  /** Whether waiting helps. */
  get isTemporary() {
    return [429, 503, 504].includes(this.status);
  }

  /** Whether this caller gets no token. Then a kept one is not used any longer either. */
  get isFinal() {
    return !this.isTemporary && this.status >= 400 && this.status < 500;
  }
}

/** A token. Send `headers` to the provider's API as they are. It prints without its secret parts. */
export class Token {
  #accessToken;
  #headers;

  /** Reads the body of GET /v1/tokens/… Throws TypeError if it is something else. */
  constructor(body) {
    const texts = [body.access_token, body.token_id, body.provider, body.connection, ...Object.values(body.headers)];
    if (!texts.every((text) => typeof text === "string" && PRINTABLE.test(text))) throw new TypeError("not a token");
    this.#accessToken = body.access_token;
    this.#headers = Object.freeze({ ...body.headers });
    this.tokenId = body.token_id;
    this.provider = body.provider;
    this.connection = body.connection;
    this.scope = body.scope;
    this.expiresAt = new Date(body.expires_at);
    this.renewAt = new Date(body.renew_at);
    this.tokenType = body.token_type;
    this.apiBaseUrl = body.api_base_url ?? null;
    this.source = body.source;
    this.warnings = body.warnings ?? [];
    Object.freeze(this);
  }

  get accessToken() {
    return this.#accessToken;
  }

  get headers() {
    return this.#headers;
  }
}

/** The broker at `url` (default: the environment variable TOKEN_BROKER_URL). */
export class TokenBroker {
  #get;
  #deadlineS;
  #log;
  #clock;
  #sleep;
  #entries = new Map();
  #failedAt = new Map();
  #responded = false;

  /**
   * `credentials`: AWS credentials, or a function that returns them or their promise, such as fromNodeProviderChain() of
   * @aws-sdk/credential-providers. Without it, those of the environment, which Lambda sets. `region`: the one to sign
   * for (default: the region in the URL, else AWS_REGION). `deadlineS`: how long one call may take, with all retries.
   * `log`: gets one line for each incident. `get`, `clock` and `sleep` are for tests.
   */
  constructor({ url, region, credentials, deadlineS, log, get, clock, sleep } = {}) {
    this.#get = get ?? signedGet(url ?? process.env.TOKEN_BROKER_URL ?? "", region, credentials);
    this.#deadlineS = deadlineS ?? DEADLINE_S;
    this.#log = log ?? console.warn;
    this.#clock = clock ?? (() => Date.now() / 1000);
    this.#sleep = sleep ?? ((seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000)));
  }

  /**
   * The connection's tokens. `scope`: items separated by single spaces (default: the connection's). `minTtl`: seconds for
   * which a token must still be valid (default: 30). `isRejected`: says of a response of the provider's API, which may
   * be a promise, whether the token was rejected (default: status 401, unless WWW-Authenticate names another reason).
   */
  connection(provider, name, { scope, minTtl, isRejected = rejectsToken } = {}) {
    const key = { provider, name, scope, minTtl };
    const id = JSON.stringify([provider, name, scope, minTtl]);
    if (!this.#entries.has(id)) this.#entries.set(id, new Entry());
    const entry = this.#entries.get(id);
    return new Connection(
      async () => (await this.#obtain(key, entry)).token,
      (rejected) => this.#obtainOther(key, entry, rejected),
      isRejected,
    );
  }

  /** One caller asks the broker. The others wait, or use the kept token. */
  async #obtain(key, entry, rejected) {
    const deadline = this.#clock() + this.#deadlineS;
    for (;;) {
      const now = this.#clock();
      const usable = entry.usable(now, rejected);
      if (usable && (now < usable.recheckAt || entry.pending)) return usable;
      const pending = entry.pending;
      if (!pending) return this.#start(key, entry, usable, usable ? undefined : rejected, deadline);
      if (rejected === undefined || rejected === pending.rejected) return pending.response;
      await pending.response.catch(() => undefined); // it reports another token, or none
    }
  }

  async #start(key, entry, usable, rejected, deadline) {
    const response = this.#request(key, entry, usable, rejected, deadline);
    entry.pending = { rejected, response };
    try {
      return await response;
    } finally {
      entry.pending = undefined;
    }
  }

  async #obtainOther(key, entry, rejected) {
    if (entry.wasReported(this.#clock(), rejected.tokenId)) return null;
    try {
      const { token } = await this.#obtain(key, entry, rejected.tokenId);
      return token.tokenId === rejected.tokenId ? null : token;
    } catch (error) {
      if (!(error instanceof TokenBrokerError)) throw error;
      this.#logIncident(key, error, `the API rejected ${rejected.tokenId}, and there is no other token`);
      return null; // the caller sees the API's response
    }
  }

  /** Asks the broker. If that fails, a usable token stays in use. */
  async #request(key, entry, usable, rejected, deadline) {
    const until = usable ? Math.min(deadline, this.#clock() + SUCCESSOR_WAIT_S) : deadline;
    try {
      entry.cached = await this.#getToken(key, rejected, until, !usable);
    } catch (error) {
      if (!(error instanceof TokenBrokerError)) throw error;
      const now = this.#clock();
      if (rejected) entry.reported = { tokenId: rejected, until: now + (error.retryAfter || FAILED_REPORT_PAUSE_S) };
      if (error.isFinal) {
        entry.cached = undefined;
      } else if (entry.cached && (usable || rejected)) {
        // After a failed report the kept token is the rejected one: ask again as soon as that may help.
        const pauseS = Math.min(Math.max(error.retryAfter ?? 0, MIN_RECHECK_S), MAX_RECHECK_S);
        entry.cached = { ...entry.cached, recheckAt: now + pauseS };
      }
      if (!usable || error.isFinal) throw error;
      this.#logIncident(key, error, `the broker failed, and a kept token stays in use (${usable.token.tokenId})`);
      return usable;
    }
    if (rejected) entry.reported = { tokenId: rejected, until: this.#clock() + MAX_RECHECK_S };
    return entry.cached;
  }

  /** One token from the broker. Retries while that helps and the deadline allows it. */
  async #getToken(key, rejected, deadline, mayPause) {
    const path = `/v1/tokens/${escaped(key.provider)}/${escaped(key.name)}`;
    const query = Object.entries({ scope: key.scope, min_ttl: key.minTtl, rejected }).filter(([, value]) => value != null);
    const beganAt = this.#clock();
    for (let retries = 0; ; retries += 1) {
      const requestedAt = this.#clock();
      try {
        const body = await this.#get(path, query, Math.max(deadline - requestedAt, 0.1));
        this.#responded = true;
        return cachedToken(body, requestedAt, key.minTtl ?? DEFAULT_MIN_TTL_S);
      } catch (error) {
        if (!(error instanceof TokenBrokerError)) throw error;
        this.#responded ||= error instanceof BrokerRefused;
        const pauseS = mayPause || retries === 0 ? pauseAfter(error, retries) : null;
        const now = this.#clock();
        if (pauseS === null || (!mayPause && pauseS > 0) || now + pauseS >= deadline) throw error;
        const tookS = now - requestedAt;
        if (!this.#responded && now + pauseS + tookS > beganAt + FIRST_RESPONSE_S) throw error;
        if (pauseS > 0) await this.#sleep(pauseS);
      }
    }
  }

  #logIncident(key, error, what) {
    const concernsAll = !(error instanceof BrokerRefused) || BROKER_ERRORS.includes(error.code);
    const name = concernsAll ? "" : `${key.provider}/${key.name}`;
    const now = this.#clock();
    if (now - (this.#failedAt.get(name) ?? -Infinity) > INCIDENT_GAP_S) this.#log(`${what}: ${error.message}`);
    this.#failedAt.set(name, now);
  }
}

/** One connection: `TokenBroker.connection` makes it. */
class Connection {
  #token;
  #replacement;
  #isRejected;

  constructor(token, replacement, isRejected) {
    this.#token = token;
    this.#replacement = replacement;
    this.#isRejected = isRejected;
  }

  /** A valid token: the kept one, else the broker's. Rejects with a TokenBrokerError. */
  token() {
    return this.#token();
  }

  /** Another token than the one that the API rejected, or null. The first caller reports it to the broker. */
  replacement(rejected) {
    return this.#replacement(rejected);
  }

  /**
   * fetch with the token's headers. If the API rejects the token, it is reported once, and the request is sent once more
   * with another one, unless the body is a stream. If the broker had that one before the report, the provider may have
   * revoked it, too: then the same once again. Redirects are not followed: the token must not reach another host.
   */
  async fetch(url, init = {}) {
    if (init.redirect && init.redirect !== "manual") throw new TypeError("redirects are not followed with a token");
    let token = await this.token();
    for (let replays = 0; ; replays += 1) {
      const response = await send(url, init, token);
      if (response.status < 400 || !(await this.#isRejected(response))) return response;
      const mayReplay = replays === 0 || (replays === 1 && token.source !== "provider");
      const other = mayReplay ? await this.replacement(token) : null;
      if (!other || !canBeSentAgain(init.body)) return response;
      await response.body?.cancel(); // so that the connection can be used again
      token = other;
    }
  }
}

/** What is kept for one key: the token, the request that is fetching the next one, the last report. */
class Entry {
  cached;
  pending;
  reported;

  /** The kept token, if it has not expired and is not the rejected one. */
  usable(now, rejected) {
    const cached = this.cached;
    return cached && now < cached.expiresAt && cached.token.tokenId !== rejected ? cached : undefined;
  }

  /** Whether this token was reported a short while ago and is still the kept one. */
  wasReported(now, tokenId) {
    return this.cached?.token.tokenId === tokenId && this.reported?.tokenId === tokenId && now < this.reported.until;
  }
}

function cachedToken(body, requestedAt, minTtlS) {
  try {
    const token = new Token(body);
    const lifetimeS = body.expires_in;
    const untilRenewalS = lifetimeS - (token.expiresAt - token.renewAt) / 1000;
    const wantedS = Math.min(untilRenewalS, lifetimeS - minTtlS, MAX_RECHECK_S);
    const keepS = Math.max(wantedS, Math.min(MIN_RECHECK_S, lifetimeS / 2));
    if (!Number.isFinite(keepS)) throw new TypeError("not a token");
    return { token, recheckAt: requestedAt + keepS, expiresAt: requestedAt + lifetimeS };
  } catch {
    throw new BrokerRefused(200, { detail: "the response is not a token: is this the broker's URL?" });
  }
}

/** How long to wait before the next retry; null if none would help. */
function pauseAfter(error, retries) {
  const growingS = Math.min(FIRST_PAUSE_S * 2 ** retries, LONGEST_PAUSE_S);
  // A kept connection that the server has closed fails at once. A new one works.
  if (error instanceof BrokerUnreachable) return retries === 0 ? 0 : growingS;
  if (error.isTemporary && error.code !== "too_many_rejections") return error.retryAfter ?? growingS;
  return null;
}

/** Whether the token is not valid any more (RFC 6750 section 3). */
function rejectsToken(response) {
  const error = BEARER_ERROR.exec(response.headers.get("WWW-Authenticate") ?? "");
  return response.status === 401 && (error === null || error[1].toLowerCase() === "invalid_token");
}

function send(url, init, token) {
  const headers = new Headers(init.headers);
  for (const [name, value] of Object.entries(token.headers)) headers.set(name, value);
  return fetch(url, { ...init, headers, redirect: "manual" });
}

function canBeSentAgain(body) {
  return body == null || typeof body === "string" || ArrayBuffer.isView(body) || body instanceof ArrayBuffer
    || body instanceof URLSearchParams || body instanceof FormData || body instanceof Blob;
}

/** Sends signed requests to the broker at `url`, over connections that stay open. */
function signedGet(url, region, credentials = environmentCredentials) {
  if (url && !isAllowed(url)) {
    throw new ClientNotConfigured("the broker's URL must be https://host/stage, like the stack's output ApiUrl");
  }
  const base = url.replace(/\/+$/, "");
  return async (path, query, timeoutS) => {
    if (!base) throw new ClientNotConfigured("no URL of the broker: pass one, or set TOKEN_BROKER_URL");
    const target = new URL(base + path);
    target.search = query.map(([name, value]) => `${escaped(name)}=${escaped(String(value))}`).join("&");
    const signingRegion =
      region ?? REGION_IN_HOST.exec(target.hostname)?.[1] ?? process.env.AWS_REGION ?? process.env.AWS_DEFAULT_REGION;
    if (!signingRegion) throw new ClientNotConfigured("no region to sign for: pass one, or set AWS_REGION");
    const headers = {
      ...signature(target, await found(credentials), signingRegion, new Date()),
      Accept: "application/json",
      "User-Agent": USER_AGENT,
    };
    if (!Object.values(headers).every((value) => PRINTABLE.test(value))) {
      // fetch's own error would repeat the session token.
      throw new ClientNotConfigured("the AWS credentials hold a character that a header cannot have");
    }
    let response;
    let text;
    try {
      const signal = AbortSignal.timeout(Math.ceil(timeoutS * 1000));
      response = await fetch(target, { headers, redirect: "manual", signal });
      text = await response.text();
    } catch (error) {
      throw new BrokerUnreachable(`no response from the broker at ${base}: ${error.cause?.code ?? error.name}`);
    }
    const body = jsonObject(text);
    if (response.status === 200 && body) return body;
    const retryAfter = /^\d+$/.exec(response.headers.get("Retry-After") ?? "");
    const problem = body ?? { detail: "the response is not a JSON object: is this the broker's URL?" };
    throw new BrokerRefused(response.status, problem, retryAfter ? Number(retryAfter[0]) : undefined);
  };
}

function isAllowed(text) {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || url.search || url.hash || url.username || url.password) return false;
  const isThisMachine = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname);
  return url.protocol === "https:" || (url.protocol === "http:" && isThisMachine);
}

async function found(credentials) {
  let values;
  try {
    values = await (typeof credentials === "function" ? credentials() : credentials);
  } catch (error) {
    throw new ClientNotConfigured(`no AWS credentials to sign with: ${error.name}: ${error.message}`);
  }
  if (!values?.accessKeyId || !values.secretAccessKey) {
    throw new ClientNotConfigured("no AWS credentials to sign with: pass credentials, such as fromNodeProviderChain()");
  }
  return values;
}

function environmentCredentials() {
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_SESSION_TOKEN: sessionToken } =
    process.env;
  return { accessKeyId, secretAccessKey, sessionToken };
}

/**
 * The headers that sign a GET of `url` (AWS Signature Version 4, service execute-api). Exported for its test.
 * `credentials`: accessKeyId, secretAccessKey and, of a role, sessionToken. `now`: a Date.
 */
export function signature(url, { accessKeyId, secretAccessKey, sessionToken }, region, now) {
  const timestamp = now.toISOString().replace(/[-:]|\.\d+/g, "");
  const headers = { host: url.host, "x-amz-date": timestamp };
  if (sessionToken) headers["x-amz-security-token"] = sessionToken;
  const names = Object.keys(headers).join(";"); // in alphabetical order
  const query = [...url.searchParams]
    .map(([name, value]) => [escaped(name), escaped(value)])
    .sort((one, other) => (one.join() < other.join() ? -1 : 1))
    .map((pair) => pair.join("="))
    .join("&");
  const canonical = [
    "GET",
    url.pathname.split("/").map(escaped).join("/"),
    query,
    ...Object.entries(headers).map(([name, value]) => `${name}:${value.trim()}`),
    "",
    names,
    sha256(""),
  ].join("\n");
  const scope = `${timestamp.slice(0, 8)}/${region}/execute-api/aws4_request`;
  const toSign = `AWS4-HMAC-SHA256\n${timestamp}\n${scope}\n${sha256(canonical)}`;
  const key = scope.split("/").reduce((previous, part) => hmac(previous, part), `AWS4${secretAccessKey}`);
  const result = hmac(key, toSign).toString("hex");
  const { host: _, ...sent } = headers; // fetch sends Host itself
  const credential = `Credential=${accessKeyId}/${scope}`;
  return { ...sent, Authorization: `AWS4-HMAC-SHA256 ${credential}, SignedHeaders=${names}, Signature=${result}` };
}

function escaped(text) {
  return encodeURIComponent(text).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
}

function sha256(text) {
  return createHash("sha256").update(text).digest("hex");
}

function hmac(key, text) {
  return createHmac("sha256", key).update(text).digest();
}

function jsonObject(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
