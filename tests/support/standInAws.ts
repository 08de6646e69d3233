import { execFileSync, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { cacheRoot } from "../../tools/cache";
import { freePort } from "./freePort";

/** moto's server: a stand-in of S3 and KMS over their own protocols. Installed once, beside the tools. */
const requirements = ["moto[s3]==5.2.5", "flask==3.1.3", "flask-cors==6.0.5"];

export interface StandInAws {
    /** What AWS's SDKs need to find it. */
    env: Record<string, string>;
    /** A bucket; its address for Pulumi. */
    bucket(name: string): Promise<string>;
    /** A new key; its address as a secrets provider. */
    key(): Promise<string>;
    stop(): void;
}

export async function standInAws(): Promise<StandInAws> {
    const port = await freePort();
    const server = spawn(path.join(installed(), "bin", "moto_server"), ["--port", `${port}`], { stdio: "ignore" });
    const endpoint = `http://127.0.0.1:${port}`;
    await answering(endpoint);
    const region = "us-east-1";
    return {
        env: { AWS_ENDPOINT_URL: endpoint, AWS_REGION: region, AWS_ACCESS_KEY_ID: "stand-in", AWS_SECRET_ACCESS_KEY: "stand-in" },
        bucket: async (name) => {
            expectOk(await fetch(`${endpoint}/${name}`, { method: "PUT" }));
            return `s3://${name}?region=${region}&s3ForcePathStyle=true`;
        },
        key: async () => {
            const headers = {
                "x-amz-target": "TrentService.CreateKey",
                "content-type": "application/x-amz-json-1.1",
                // Whom it is for is read from here; the signature is not.
                authorization: `AWS4-HMAC-SHA256 Credential=stand-in/20261201/${region}/kms/aws4_request, SignedHeaders=host, Signature=0`,
            };
            const answer = expectOk(await fetch(endpoint, { method: "POST", headers, body: "{}" }));
            const { KeyMetadata } = (await answer.json()) as { KeyMetadata: { KeyId: string } };
            return `awskms://${KeyMetadata.KeyId}?region=${region}`;
        },
        stop: () => void server.kill(),
    };
}

function installed(): string {
    const folder = path.join(cacheRoot(), `stand-in-aws-${requirements[0]!.replace(/\W+/g, "-")}`);
    if (!fs.existsSync(path.join(folder, "complete"))) {
        fs.rmSync(folder, { recursive: true, force: true });
        execFileSync("python3", ["-m", "venv", folder]);
        execFileSync(path.join(folder, "bin", "pip"), ["install", "--quiet", "--disable-pip-version-check", ...requirements]);
        fs.writeFileSync(path.join(folder, "complete"), "");
    }
    return folder;
}

async function answering(endpoint: string): Promise<void> {
    for (let tries = 0; ; tries += 1) {
        try {
            await fetch(endpoint);
            return;
        } catch (error) {
            if (tries === 120) {
                throw error;
            }
            await new Promise((done) => setTimeout(done, 500));
        }
    }
}

function expectOk(answer: Response): Response {
    if (!answer.ok) {
        throw new Error(`${answer.url} answered ${answer.status}`);
    }
    return answer;
}
