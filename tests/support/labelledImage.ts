import { createHash } from "node:crypto";

const digestOf = (text: string) => `sha256:${createHash("sha256").update(text).digest("hex")}`;

/** An image without a file, whose labels say versions as a build here writes them: an update may adopt it, and no pod can run it. */
export function labelledImage() {
    const manifestType = "application/vnd.oci.image.manifest.v1+json";
    const labels = { "ai.vllm.gh200.cuda": "13.2", "ai.vllm.gh200.torch": "2.11.0", "ai.vllm.gh200.vllm": "0.19.0" };
    const config = JSON.stringify({ config: { Labels: labels } });
    const descriptor = { mediaType: "application/vnd.oci.image.config.v1+json", digest: digestOf(config), size: config.length };
    const manifest = JSON.stringify({ schemaVersion: 2, mediaType: manifestType, config: descriptor, layers: [] });
    return { digest: digestOf(manifest), manifest, manifestType, config, configDigest: descriptor.digest };
}
