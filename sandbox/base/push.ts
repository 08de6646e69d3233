import * as fs from "node:fs";
import * as https from "node:https";
import * as path from "node:path";
import { text } from "node:stream/consumers";
import { Problem } from "../report";
import type { Base } from "./base";

export interface PushTarget {
    /** HOST:PORT of a registry that speaks TLS. */
    readonly address: string;
    readonly username: string;
    readonly passwordFile: string;
    readonly caFile: string;
}

interface Descriptor {
    readonly mediaType: string;
    readonly digest: string;
    readonly size: number;
}

const REPOSITORY = "stand-in/pytorch";

/** Pushes the base by digest, what the registry has already excepted, and gives its reference by digest. */
export async function pushBase(registry: PushTarget, base: Base): Promise<string> {
    const call = caller(registry);
    const file = (digest: string): string => path.join(base.layout, "blobs", "sha256", digest.slice("sha256:".length));
    const reference = `${registry.address}/${REPOSITORY}@${base.digest}`;
    const manifestPath = `/v2/${REPOSITORY}/manifests/${base.digest}`;
    const text = fs.readFileSync(file(base.digest));
    const manifest = JSON.parse(text.toString()) as { mediaType: string; config: Descriptor; layers: Descriptor[] };
    if ((await call("HEAD", manifestPath, { Accept: manifest.mediaType })).status === 200) {
        return reference;
    }
    for (const blob of [manifest.config, ...manifest.layers]) {
        if ((await call("HEAD", `/v2/${REPOSITORY}/blobs/${blob.digest}`)).status === 200) {
            continue;
        }
        const begun = expect(await call("POST", `/v2/${REPOSITORY}/blobs/uploads/`, { "Content-Length": "0" }), 202);
        const upload = new URL(begun.location ?? "", `https://${registry.address}`);
        upload.searchParams.set("digest", blob.digest);
        const headers = { "Content-Type": "application/octet-stream", "Content-Length": String(blob.size) };
        expect(await call("PUT", upload.pathname + upload.search, headers, fs.createReadStream(file(blob.digest))), 201);
    }
    expect(await call("PUT", manifestPath, { "Content-Type": manifest.mediaType, "Content-Length": String(text.length) }, text), 201);
    return reference;
}

interface Answer {
    readonly what: string;
    readonly status: number;
    readonly location?: string;
    readonly body: string;
}

function expect(answer: Answer, status: number): Answer {
    if (answer.status !== status) {
        throw new Problem(`registry: ${answer.what}: status ${answer.status} ${answer.body.slice(0, 200)}; accepted: ${status}`);
    }
    return answer;
}

function caller(registry: PushTarget) {
    const options = {
        host: registry.address.slice(0, registry.address.lastIndexOf(":")),
        port: registry.address.slice(registry.address.lastIndexOf(":") + 1),
        ca: fs.readFileSync(registry.caFile),
        auth: `${registry.username}:${fs.readFileSync(registry.passwordFile, "utf8").trim()}`,
        agent: false as const,
    };
    return (method: string, at: string, headers: Record<string, string> = {}, body?: Buffer | fs.ReadStream): Promise<Answer> =>
        new Promise((resolve, reject) => {
            const request = https.request({ ...options, method, path: at, headers }, (response) => {
                text(response).then(
                    (answer) => resolve({ what: `${method} ${at}`, status: response.statusCode ?? 0, location: response.headers.location, body: answer }),
                    reject,
                );
            });
            request.on("error", reject);
            if (body === undefined || Buffer.isBuffer(body)) {
                request.end(body);
            } else {
                body.on("error", reject);
                body.pipe(request);
            }
        });
}
