import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";

/** Writes NAME.key and NAME.pem into the folder: a certificate for localhost, or another address, that signs itself, two days long. */
export function writeCertificatePair(folder: string, name: string, address = "127.0.0.1"): void {
    execFileSync(
        "openssl",
        [
            ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", `/CN=${name}`],
            ...["-addext", `subjectAltName=DNS:localhost,IP:${address}`],
            ...["-keyout", path.join(folder, `${name}.key`), "-out", path.join(folder, `${name}.pem`)],
        ],
        { stdio: "ignore" },
    );
}

/** The same as texts. */
export function certificatePair(name: string): { certificate: string; key: string } {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-certificate-"));
    try {
        writeCertificatePair(folder, name);
        const [certificate, key] = ["pem", "key"].map((end) => fs.readFileSync(path.join(folder, `${name}.${end}`), "utf8"));
        return { certificate: certificate!, key: key! };
    } finally {
        fs.rmSync(folder, { recursive: true, force: true });
    }
}
