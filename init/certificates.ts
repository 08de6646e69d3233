import { createPrivateKey, X509Certificate } from "node:crypto";
import * as fs from "node:fs";
import type { Problem } from "../components/internal/errors";

/** The three files of a connection over mutual TLS; undefined where a file is not given. */
export interface CertificateFiles {
    ca: string | undefined;
    cert: string | undefined;
    key: string | undefined;
}

/** PEM text of the files that could be read, empty for the others, and what is wrong with those. */
export interface ReadCertificates {
    ca: string;
    cert: string;
    key: string;
    problems: Problem[];
}

export function readCertificates(files: CertificateFiles): ReadCertificates {
    const ca = readPem("--builder-ca", files.ca, "certificate", validCertificate);
    const cert = readPem("--builder-cert", files.cert, "certificate", validCertificate);
    const key = readPem("--builder-key", files.key, "private key", createPrivateKey);
    const problems = [...ca.problems, ...cert.problems, ...key.problems];
    if (cert.text !== "" && key.text !== "" && !new X509Certificate(cert.text).checkPrivateKey(createPrivateKey(key.text))) {
        problems.push({
            path: "--builder-key",
            value: files.key,
            wrong: `is not the key of ${files.cert}`,
            accepted: "the key that the certificate was made with",
        });
    }
    return { ca: ca.text, cert: cert.text, key: key.text, problems };
}

function readPem(flag: string, file: string | undefined, what: string, check: (text: string) => unknown): { text: string; problems: Problem[] } {
    if (file === undefined) {
        return { text: "", problems: [] };
    }
    const refused = (wrong: string) => ({ text: "", problems: [{ path: flag, value: file, wrong, accepted: `a file with a ${what} as PEM text` }] });
    let text: string;
    try {
        text = fs.readFileSync(file, "utf8");
    } catch (error) {
        return refused(`cannot be read (${(error as NodeJS.ErrnoException).code})`);
    }
    try {
        check(text);
        return { text, problems: [] };
    } catch (error) {
        return refused(error instanceof Expired ? error.message : `holds no ${what}`);
    }
}

class Expired extends Error {}

function validCertificate(text: string): void {
    const { validTo } = new X509Certificate(text);
    if (new Date(validTo) < new Date()) {
        throw new Expired(`expired on ${validTo}`);
    }
}
