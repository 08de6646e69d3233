import { createHash } from "node:crypto";
import { getManifest, putBlob, putManifest, type RegistryCredentials, RegistryError } from "./registryClient";

/** Something that belongs to an image and is no part of it. */
export interface Artifact {
    /** Media type of the artifact, e.g. `application/vnd.gh200-vllm.approval.v1+json`; of its content too. */
    type: string;
    content: Buffer;
    /** Name of the file that it is. */
    title: string;
}

interface Descriptor {
    mediaType: string;
    digest: string;
    size: number;
}

const manifestType = "application/vnd.oci.image.manifest.v1+json";
const indexType = "application/vnd.oci.image.index.v1+json";
const empty = Buffer.from("{}");

/**
 * Attaches an artifact to an image, as OCI has it (image-spec 1.1, «Guidelines for Artifact Usage»): a manifest whose subject is the image's.
 * The image keeps its digest, and whoever has it finds the artifact.
 *
 * A registry without the referrers API keeps the list under the tag `sha256-HEX` (distribution-spec 1.1, «Referrers Tag Schema»); two who
 * attach to one image at one moment may lose one entry of it, as the specification says.
 *
 * @param reference `REPOSITORY@DIGEST`.
 * @returns the artifact's own digest, which is the same for the same content.
 */
export async function attachArtifact(reference: string, { type, content, title }: Artifact, credentials?: RegistryCredentials): Promise<string> {
    const [repository = "", digest = ""] = reference.split("@");
    const image = await getManifest(reference, credentials);
    const layer = described(type, content);
    const config = { ...described("application/vnd.oci.empty.v1+json", empty), data: empty.toString("base64") };
    await putBlob(repository, config.digest, empty, credentials);
    await putBlob(repository, layer.digest, content, credentials);
    const manifest = asBytes({
        schemaVersion: 2,
        mediaType: manifestType,
        artifactType: type,
        config,
        layers: [{ ...layer, annotations: { "org.opencontainers.image.title": title } }],
        subject: { mediaType: image.type, digest, size: image.bytes.length },
    });
    const artifact = { ...described(manifestType, manifest), artifactType: type };
    const answer = await putManifest(`${repository}@${artifact.digest}`, { type: manifestType, bytes: manifest }, credentials);
    // The registry says so where it keeps the list itself.
    if (!answer.has("oci-subject")) {
        await list(`${repository}:${digest.replace(":", "-")}`, artifact, credentials);
    }
    return artifact.digest;
}

async function list(tag: string, artifact: Descriptor, credentials?: RegistryCredentials): Promise<void> {
    const listed = await referrers(tag, credentials);
    if (!listed.some(({ digest }) => digest === artifact.digest)) {
        const index = asBytes({ schemaVersion: 2, mediaType: indexType, manifests: [...listed, artifact] });
        await putManifest(tag, { type: indexType, bytes: index }, credentials);
    }
}

async function referrers(tag: string, credentials?: RegistryCredentials): Promise<Descriptor[]> {
    try {
        const { bytes } = await getManifest(tag, credentials);
        return (JSON.parse(bytes.toString("utf8")) as { manifests?: Descriptor[] }).manifests ?? [];
    } catch (error) {
        if (error instanceof RegistryError && error.status === 404) {
            return [];
        }
        throw error;
    }
}

const asBytes = (json: object): Buffer => Buffer.from(JSON.stringify(json));

const described = (mediaType: string, bytes: Buffer): Descriptor => ({
    mediaType,
    digest: `sha256:${createHash("sha256").update(bytes).digest("hex")}`,
    size: bytes.length,
});
