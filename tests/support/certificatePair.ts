import { execFileSync } from "node:child_process";
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
