import { X509Certificate } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import type { Layout } from "./layout";
import { Problem } from "./report";
import { run } from "./processes";

/** One authority per trust domain: whoever may build is nobody to the API server. */
export type Authority = "registry" | "builder" | "kubernetes";

export interface Certificate {
    readonly cert: string;
    readonly key: string;
    readonly ca: string;
}

export interface Request {
    readonly authority: Authority;
    readonly name: string;
    readonly usage: "server" | "client" | "both";
    readonly commonName: string;
    /** Kubernetes reads groups from it. */
    readonly organization?: string;
    /** «DNS:localhost», «IP:127.0.0.1». */
    readonly names?: readonly string[];
}

const AUTHORITY_DAYS = 3650;
const LEAF_DAYS = 365;
// Issued anew when less than this is left, so that a sandbox that is used now does not fail next week.
const RENEW_DAYS = 7;

export const caFile = (layout: Layout, authority: Authority): string => path.join(layout.pki, `${authority}-ca.crt`);

export async function ensureAuthority(layout: Layout, authority: Authority): Promise<string> {
    const cert = caFile(layout, authority);
    const key = path.join(layout.pki, `${authority}-ca.key`);
    if (!isValid(cert, key)) {
        await issue(cert, key, AUTHORITY_DAYS, `/CN=gh200 sandbox ${authority} CA`, [
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        ]);
    }
    return cert;
}

export async function ensureCertificate(layout: Layout, request: Request): Promise<Certificate> {
    const ca = caFile(layout, request.authority);
    const cert = path.join(layout.pki, `${request.name}.crt`);
    const key = path.join(layout.pki, `${request.name}.key`);
    if (!isValid(cert, key, ca)) {
        const usage = { server: "serverAuth", client: "clientAuth", both: "serverAuth,clientAuth" }[request.usage];
        await issue(cert, key, LEAF_DAYS, `${request.organization === undefined ? "" : `/O=${request.organization}`}/CN=${request.commonName}`, [
            "-CA",
            ca,
            "-CAkey",
            ca.replace(/\.crt$/, ".key"),
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-addext",
            "keyUsage=critical,digitalSignature",
            "-addext",
            `extendedKeyUsage=${usage}`,
            ...(request.names === undefined ? [] : ["-addext", `subjectAltName=${request.names.join(",")}`]),
        ]);
    }
    return { cert, key, ca };
}

async function issue(cert: string, key: string, days: number, subject: string, extensions: string[]): Promise<void> {
    // The certificate is renamed last: a pair without it is made again.
    const [newCert, newKey] = [`${cert}.new`, `${key}.new`];
    await run("openssl", [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        newKey,
        "-out",
        newCert,
        "-days",
        String(days),
        "-subj",
        subject,
        "-config",
        "/dev/null",
        ...extensions,
    ]).catch((error: Error) => {
        throw new Problem(`openssl 3 is needed to issue the sandbox's certificates: ${error.message}`);
    });
    fs.chmodSync(newKey, 0o600);
    fs.rmSync(cert, { force: true });
    fs.renameSync(newKey, key);
    fs.renameSync(newCert, cert);
}

function isValid(cert: string, key: string, ca?: string): boolean {
    try {
        const certificate = new X509Certificate(fs.readFileSync(cert));
        const fresh = Date.parse(certificate.validTo) > Date.now() + RENEW_DAYS * 86_400_000;
        return fresh && fs.existsSync(key) && (ca === undefined || certificate.verify(new X509Certificate(fs.readFileSync(ca)).publicKey));
    } catch {
        return false;
    }
}
