import { createHash } from "node:crypto";
import { isLoopbackRegistry, registryHost } from "./reference";

export interface RegistryCredentials {
    username: string;
    password: string;
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

const manifestTypes = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
].join(", ");

/** Digest of the manifest that a tag names for a platform, e.g. `linux/arm64`, which an index may hold beside others. */
export async function platformDigest(name: string, platform: string, credentials?: RegistryCredentials): Promise<string> {
    const host = registryHost(name);
    const [, repository = "", tag = ""] = /^(.+):([^:/]+)$/.exec(name.slice(host.length + 1)) ?? [];
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
    const host = registryHost(reference);
    const [, repository = "", digest = ""] = /^(.+?)[@:](sha256:.+|[^:/]+)$/.exec(reference.slice(host.length + 1)) ?? [];
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

/** GET as JSON and by its digest, with the registry's own choice of Basic or token authentication. */
async function authorised(url: string, credentials?: RegistryCredentials): Promise<{ body: unknown; digest: string }> {
    const basic = credentials && `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString("base64")}`;
    let response = await request(url, basic);
    const challenge = response.headers.get("www-authenticate") ?? "";
    if (response.status === 401 && /^bearer /i.test(challenge)) {
        const field = (name: string) => new RegExp(`${name}="([^"]*)"`).exec(challenge)?.[1] ?? "";
        const query = new URLSearchParams({ service: field("service"), scope: field("scope") });
        const answer = (await (await request(`${field("realm")}?${query}`, basic)).json()) as { token?: string; access_token?: string };
        response = await request(url, `Bearer ${answer.token ?? answer.access_token ?? ""}`);
    }
    if (!response.ok) {
        throw new RegistryError(url, response.status, response.statusText);
    }
    const text = await response.text();
    return { body: JSON.parse(text) as unknown, digest: `sha256:${createHash("sha256").update(text).digest("hex")}` };
}

async function request(url: string, authorization?: string): Promise<Response> {
    const headers = { Accept: manifestTypes, ...(authorization !== undefined && { Authorization: authorization }) };
    const get = (address: string) => fetch(address, { headers, signal: AbortSignal.timeout(20_000) });
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
        throw error;
    }
}
