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

export function releaseTag(name: ReleaseName): string {
    return `${name.vllmVersion}${name.imageSuffix}`;
}

/** `registry/IMAGE_TAG:VLLM_VERSION` + `IMAGE_SUFFIX`. */
export function releaseReference(name: ReleaseName): string {
    return `${releaseRepository(name)}:${releaseTag(name)}`;
}

/** The host (and port) that credentials belong to. */
export function registryHost(reference: string): string {
    return reference.split("/", 1)[0] ?? reference;
}

/** Only this machine can reach it: where a stand-in may be pushed. */
export function isLoopbackRegistry(reference: string): boolean {
    return /^(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$/.test(registryHost(reference));
}

/** `REPOSITORY@sha256:DIGEST`. */
export function isDigestReference(reference: string): boolean {
    return /^[^@\s]+@sha256:[0-9a-f]{64}$/.test(reference);
}
