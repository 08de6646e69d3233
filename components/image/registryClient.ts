import { createHash } from "node:crypto";
import { connectionFault, Fault } from "../internal/connectionFault";
import { isLoopbackRegistry, normalised } from "./reference";

export interface RegistryCredentials {
    username: string;
    password: string;
}

/** Bytes and what they are. */
export interface Content {
    /** Media type. */
    type: string;
    bytes: Buffer;
}

/** A registry's answer that is none of success. */
export class RegistryError extends Error {
    constructor(
        url: string,
        readonly status: number,
        statusText: string,
    ) {
        super(`${url} answered ${status} ${statusText}`);
    }
}

/** A registry that could not be asked, with its host and the reason. */
class UnreachedError extends Error {
    constructor(url: string, cause: unknown) {
        const told = causeOf(cause);
        const fault = connectionFault(told);
        const trust = fault?.fault === Fault.Authority ? "; have Node.js trust its authority (NODE_EXTRA_CA_CERTS)" : "";
        super(`${new URL(url).host}: ${fault === undefined ? "" : `${fault.wrong} `}(${told})${trust}`, { cause });
    }
}

/** What fetch keeps in its error's cause, where the error itself says `fetch failed`. */
function causeOf(error: unknown): string {
    const { message, cause, code } = error as Error & { code?: string };
    return cause === undefined ? [code, message].filter(Boolean).join(" ") : causeOf(cause);
}

const manifestTypes = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
].join(", ");

/** Digest of the manifest that a tag names for a platform, e.g. `linux/arm64`, which an index may hold beside others. */
export async function platformDigest(name: string, platform: string, credentials?: RegistryCredentials): Promise<string> {
    const { host, repository, reference: tag } = manifestOf(name);
    type Entry = { digest: string; platform?: { os: string; architecture: string } };
    const { body, digest } = await authorised(`https://${host}/v2/${repository}/manifests/${tag}`, credentials);
    const { manifests, config } = body as { manifests?: Entry[]; config?: { digest: string } };
    if (manifests === undefined && config !== undefined) {
        const found = (await authorised(`https://${host}/v2/${repository}/blobs/${config.digest}`, credentials)).body as { os: string; architecture: string };
        if (`${found.os}/${found.architecture}` !== platform) {
            throw new Error(`is for ${found.os}/${found.architecture} alone; accepted: an image for ${platform}`);
        }
        return digest;
    }
    const entry = (manifests ?? []).find((candidate) => `${candidate.platform?.os}/${candidate.platform?.architecture}` === platform);
    if (entry === undefined) {
        throw new Error(`has no image for ${platform}`);
    }
    return entry.digest;
}

/**
 * Labels of an image in a registry, read from its configuration: what was truly pushed, not what was asked for.
 *
 * @param reference by digest or by tag.
 * @throws RegistryError with the registry's status, 404 where there is no such image.
 */
export async function imageLabels(reference: string, credentials?: RegistryCredentials): Promise<Record<string, string>> {
    const { host, repository, reference: digest } = manifestOf(reference);
    const get = async <T>(kind: "manifests" | "blobs", name: string) =>
        (await authorised(`https://${host}/v2/${repository}/${kind}/${name}`, credentials)).body as T;
    type Manifest = { config?: { digest: string }; manifests?: { digest: string }[] };
    let manifest = await get<Manifest>("manifests", digest);
    if (manifest.manifests?.[0] !== undefined) {
        manifest = await get<Manifest>("manifests", manifest.manifests[0].digest);
    }
    if (manifest.config === undefined) {
        throw new Error(`${reference} is no image: its manifest names no configuration`);
    }
    const { config } = await get<{ config?: { Labels?: Record<string, string> } }>("blobs", manifest.config.digest);
    return config?.Labels ?? {};
}

/** Every tag of a repository, in the registry's order; none where the repository does not exist. */
export async function listTags(repository: string, credentials?: RegistryCredentials): Promise<string[]> {
    const { host, repository: below } = manifestOf(repository);
    const tags: string[] = [];
    for (let url: string | undefined = `https://${host}/v2/${below}/tags/list?n=100`; url !== undefined;) {
        const response: Response = await answered("GET", url, credentials);
        if (response.status === 404) {
            return [];
        }
        tags.push(...(((await ok(url, response).json()) as { tags?: string[] | null }).tags ?? []));
        const next = /<([^>]+)>;\s*rel="?next"?/.exec(response.headers.get("link") ?? "")?.[1];
        url = next === undefined ? undefined : samePlace(url, new URL(next, url));
    }
    return tags;
}

/** Digest of the manifest that `REPOSITORY:TAG` names. */
export async function tagDigest(name: string, credentials?: RegistryCredentials): Promise<string> {
    const { repository, reference, host } = manifestOf(name);
    return (await authorised(`https://${host}/v2/${repository}/manifests/${reference}`, credentials)).digest;
}

/** Deletes the manifest `REPOSITORY@DIGEST`, and with it every tag that names it. */
export async function deleteManifest(name: string, credentials?: RegistryCredentials): Promise<void> {
    const { repository, reference, host } = manifestOf(name);
    const url = `https://${host}/v2/${repository}/manifests/${reference}`;
    ok(url, await answered("DELETE", url, credentials));
}

/** A manifest as it is kept, and its media type. */
export async function getManifest(name: string, credentials?: RegistryCredentials): Promise<Content> {
    const { host, repository, reference } = manifestOf(name);
    const url = `https://${host}/v2/${repository}/manifests/${reference}`;
    const response = ok(url, await answered("GET", url, credentials));
    return { type: response.headers.get("content-type") ?? "", bytes: checked(url, Buffer.from(await response.arrayBuffer())) };
}

/** Pushes a manifest by tag or by digest; the registry's headers. */
export async function putManifest(name: string, manifest: Content, credentials?: RegistryCredentials): Promise<Headers> {
    const { host, repository, reference } = manifestOf(name);
    const url = `https://${host}/v2/${repository}/manifests/${reference}`;
    return ok(url, await answered("PUT", url, credentials, manifest)).headers;
}

/** Pushes a blob in one piece. */
export async function putBlob(repository: string, digest: string, bytes: Buffer, credentials?: RegistryCredentials): Promise<void> {
    const { host, repository: below } = manifestOf(repository);
    const uploads = `https://${host}/v2/${below}/blobs/uploads/`;
    const started = ok(uploads, await answered("POST", uploads, credentials));
    const place = new URL(started.headers.get("location") ?? "", uploads);
    place.searchParams.set("digest", digest);
    // At the registry that was asked, whatever the answer says: elsewhere, the credentials would be another host's.
    const url = `${new URL(uploads).origin}${place.pathname}${place.search}`;
    ok(url, await answered("PUT", url, credentials, { type: "application/octet-stream", bytes }));
}

/**
 * Whether a registry wants a login, by what its API's root answers.
 *
 * @throws RegistryError where that is neither success nor a question for a login.
 */
export async function wantsLogin(host: string): Promise<boolean> {
    const url = `https://${host}/v2/`;
    const response = await request("GET", url);
    if (response.status === 401 && response.headers.has("www-authenticate")) {
        return true;
    }
    ok(url, response);
    return false;
}

/**
 * Whether a registry takes a user's login, by what its API's root answers.
 *
 * @throws RegistryError where that is neither success nor a refusal.
 */
export async function takesLogin(host: string, credentials: RegistryCredentials): Promise<boolean> {
    const url = `https://${apiHost(host)}/v2/`;
    try {
        ok(url, await answered("GET", url, credentials));
        return true;
    } catch (error) {
        if (isDenial(error)) {
            return false;
        }
        throw error;
    }
}

/**
 * What a registry's token server grants a user on a repository of what is asked for, e.g. `pull` of `pull,push`; undefined where the
 * registry has no token server, or a token does not say what it is for (distribution's do: docs/spec/auth/jwt.md, `access`).
 */
export async function grantedActions(name: string, actions: string, credentials: RegistryCredentials): Promise<string[] | undefined> {
    const { host, repository } = manifestOf(name);
    const url = `https://${host}/v2/`;
    const realm = tokenServer(url, await request("GET", url));
    if (realm === undefined) {
        return undefined;
    }
    realm.searchParams.set("scope", `repository:${repository}:${actions}`);
    const access = claims(await token(realm, basic(credentials)))?.access;
    return Array.isArray(access)
        ? (access as Access[]).filter((of) => of.type === "repository" && of.name === repository).flatMap((of) => of.actions)
        : undefined;
}

interface Access {
    type: string;
    name: string;
    actions: string[];
}

/** What a JSON Web Token says, unverified; undefined where a token is none. */
function claims(jwt: string): { access?: unknown } | undefined {
    try {
        return JSON.parse(Buffer.from(jwt.split(".")[1] ?? "", "base64url").toString("utf8")) as { access?: unknown };
    } catch {
        return undefined;
    }
}

/** Whether a registry, or its token server, refused whoever asked. */
export function isDenial(error: unknown): boolean {
    return error instanceof RegistryError && (error.status === 401 || error.status === 403);
}

/** Docker Hub's registry has another host than its images' names. */
function apiHost(host: string): string {
    return host === "docker.io" || host === "index.docker.io" ? "registry-1.docker.io" : host;
}

function manifestOf(name: string): { host: string; repository: string; reference: string } {
    const { host, ...rest } = normalised(name);
    return { host: apiHost(host), ...rest };
}

/** A list goes on where it began: elsewhere, the credentials would be another host's. */
function samePlace(url: string, next: URL): string {
    if (next.origin !== new URL(url).origin) {
        throw new Error(`${url} goes on at ${next.origin}; accepted: the registry itself`);
    }
    return next.href;
}

/** GET as JSON, and by the digest of what came. */
async function authorised(url: string, credentials?: RegistryCredentials): Promise<{ body: unknown; digest: string }> {
    const bytes = checked(url, Buffer.from(await ok(url, await answered("GET", url, credentials)).arrayBuffer()));
    return { body: JSON.parse(bytes.toString("utf8")) as unknown, digest: digestOf(bytes) };
}

/** What is asked for by digest has it. */
function checked(url: string, bytes: Buffer): Buffer {
    const [digest, asked] = [digestOf(bytes), /\/(sha256:[^/]*)$/.exec(url)?.[1]];
    if (asked !== undefined && asked !== digest) {
        throw new Error(`${url} answered ${digest}; accepted: what has the digest that was asked for`);
    }
    return bytes;
}

const digestOf = (bytes: Buffer): string => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

/** The registry's answer, with its own choice of Basic or token authentication. */
async function answered(method: string, url: string, credentials?: RegistryCredentials, content?: Content): Promise<Response> {
    const authorization = credentials && basic(credentials);
    const response = await request(method, url, authorization, content);
    const realm = tokenServer(url, response);
    return realm === undefined ? response : request(method, url, `Bearer ${await token(realm, authorization)}`, content);
}

const basic = ({ username, password }: RegistryCredentials): string => `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;

/** Where a registry sends whoever asked for a token, with what the token must be for; undefined where it sends nobody anywhere. */
function tokenServer(url: string, { status, headers }: Response): URL | undefined {
    const challenge = headers.get("www-authenticate") ?? "";
    if (status !== 401 || !/^bearer /i.test(challenge)) {
        return undefined;
    }
    const field = (name: string) => new RegExp(`${name}="([^"]*)"`).exec(challenge)?.[1] ?? "";
    const realm = URL.canParse(field("realm")) ? new URL(field("realm")) : undefined;
    if (realm?.protocol !== "https:" && !(realm?.protocol === "http:" && isLoopbackRegistry(realm.host))) {
        throw new Error(`${url} wants a login at ${JSON.stringify(field("realm"))}; accepted: an https address`);
    }
    realm.search = new URLSearchParams({ service: field("service"), scope: field("scope") }).toString();
    return realm;
}

async function token(realm: URL, authorization: string | undefined): Promise<string> {
    const answer = (await ok(`${realm.origin}${realm.pathname}`, await request("GET", realm.href, authorization)).json()) as {
        token?: string;
        access_token?: string;
    };
    return answer.token ?? answer.access_token ?? "";
}

function ok(url: string, response: Response): Response {
    if (!response.ok) {
        throw new RegistryError(url, response.status, response.statusText);
    }
    return response;
}

async function request(method: string, url: string, authorization?: string, content?: Content): Promise<Response> {
    const headers = {
        Accept: manifestTypes,
        ...(authorization !== undefined && { Authorization: authorization }),
        ...(content !== undefined && { "Content-Type": content.type }),
    };
    const body = content === undefined ? null : new Uint8Array(content.bytes);
    const get = (address: string) => fetch(address, { method, headers, body, signal: AbortSignal.timeout(20_000) });
    try {
        return await get(url);
    } catch (error) {
        // As Docker does: a registry on this machine may speak plain HTTP.
        if (isLoopbackRegistry(new URL(url).host)) {
            const plain = await get(url.replace(/^https:/, "http:")).catch(() => undefined);
            if (plain !== undefined) {
                return plain;
            }
        }
        throw new UnreachedError(url, error);
    }
}
