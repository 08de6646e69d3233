/** The parts that the source document's pipeline parameters name a release by. */
export interface ReleaseName {
    /** Registry host and namespace, e.g. `atl.vultrcr.com/vllm`. */
    registry: string;
    /** IMAGE_TAG: the repository below it, e.g. `gh200-vllm-cmm`. */
    imageTag: string;
    /** VLLM_VERSION: branch or version, e.g. `cmm`. */
    vllmVersion: string;
    /** IMAGE_SUFFIX, e.g. `-cmm`. */
    imageSuffix: string;
}

export function releaseRepository(name: ReleaseName): string {
    return `${name.registry}/${name.imageTag}`;
}

export function releaseTag(name: Pick<ReleaseName, "vllmVersion" | "imageSuffix">): string {
    return `${name.vllmVersion}${name.imageSuffix}`;
}

/** `registry/IMAGE_TAG:VLLM_VERSION` + `IMAGE_SUFFIX`. */
export function releaseReference(name: ReleaseName): string {
    return `${releaseRepository(name)}:${releaseTag(name)}`;
}

/*
 * The grammar of image names: distribution's (github.com/distribution/reference, regexp.go and normalize.go), which Docker, BuildKit,
 * containerd and the kubelet read names by. A port is one that TCP has.
 */
const label = "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?";
const port = "(?:[1-9]\\d{0,3}|[1-5]\\d{4}|6[0-4]\\d{3}|65[0-4]\\d{2}|655[0-2]\\d|6553[0-5])";
const host = `(?:${label}(?:\\.${label})*|\\[[a-fA-F0-9:]*:[a-fA-F0-9:.]*\\])`;
const component = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
const path = `${component}(?:/${component})*`;
const domain = `${host}(?::${port})?`;
const tag = "\\w[\\w.-]{0,127}";

const repositoryPattern = new RegExp(`^${path}$`);
const tagPattern = new RegExp(`^${tag}$`);
const addressPattern = new RegExp(`^${domain}/${path}$`);
const namedPattern = new RegExp(`^(?:${domain}/)?${path}$`);
const hostPattern = new RegExp(`^${host}$`);
const hostPortPattern = new RegExp(`^${host}:${port}$`);

/** A name or address, an IPv6 one in brackets. */
export function isHost(text: string): boolean {
    return hostPattern.test(text);
}

/** `HOST:PORT`. */
export function isHostPort(text: string): boolean {
    return hostPortPattern.test(text);
}

/** Longest name without tag and digest. */
const longestName = 255;

/** `HOST[:PORT]/NAMESPACE`: what images are pushed below. */
export function isRegistryAddress(text: string): boolean {
    return addressPattern.test(text) && text.length <= longestName;
}

/** Whether a name says which registry it is of; otherwise it is Docker Hub's (`ubuntu`, `nvidia/cuda`). */
export function namesHost(reference: string): boolean {
    const at = reference.indexOf("/");
    const first = reference.slice(0, at);
    return at > 0 && (/[.:]/.test(first) || first === "localhost" || first !== first.toLowerCase());
}

/** A repository's name below a registry, without host and tag. */
export function isRepositoryPath(text: string): boolean {
    return repositoryPattern.test(text) && text.length <= longestName;
}

function isTag(text: string): boolean {
    return tagPattern.test(text);
}

/** `NAME:TAG`, with or without a host: Docker Hub's short names too. */
export function isTaggedReference(text: string): boolean {
    const [, name = "", of = ""] = /^(.+):([^:/@]+)$/.exec(text) ?? [];
    return namedPattern.test(name) && name.length <= longestName && isTag(of);
}

/**
 * Host, repository and tag or digest of a name, as Docker reads it: one without a host is Docker Hub's, and there one without a
 * namespace is `library`'s.
 */
export function normalised(reference: string): { host: string; repository: string; reference: string } {
    const host = namesHost(reference) ? reference.slice(0, reference.indexOf("/")) : "docker.io";
    const rest = namesHost(reference) ? reference.slice(host.length + 1) : reference;
    const [, repository = rest, of = ""] = /^(.+?)[@:](sha256:.+|[^:/]+)$/.exec(rest) ?? [];
    return { host, repository: host === "docker.io" && !repository.includes("/") ? `library/${repository}` : repository, reference: of };
}

/** The host (and port) that credentials belong to, of an image's name or of a registry's address. */
export function registryHost(reference: string): string {
    // A host alone, as a registry without a namespace.
    if (!reference.includes("/") && /^(\[.*\]|localhost|[^:]*\.[^:]*)?(:\d+)?$/.test(reference)) {
        return reference;
    }
    return normalised(reference).host;
}

/** Only this machine can reach it: where a stand-in may be pushed. */
export function isLoopbackRegistry(reference: string): boolean {
    return /^(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$/.test(registryHost(reference));
}

/** `REPOSITORY@sha256:DIGEST`, and `REPOSITORY:TAG@sha256:DIGEST`, whose tag nobody reads. */
export function isDigestReference(reference: string): boolean {
    const [, name = ""] = /^(.+)@sha256:[0-9a-f]{64}$/.exec(reference) ?? [];
    return (namedPattern.test(name) && name.length <= longestName) || isTaggedReference(name);
}
