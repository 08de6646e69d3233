import { createPrivateKey, X509Certificate } from "node:crypto";
import type { Problem } from "../internal/errors";

/** The PEM texts of a mutual TLS connection, each where it is known; empty where it is not set. */
export interface Certificates {
    caCertificate?: string;
    clientCertificate?: string;
    clientKey?: string;
}

const pem = "PEM text, with its lines";

/** What of them no daemon would take, told before anything is dialled. */
export function certificateProblems(path: string, certificates: Certificates, now = new Date()): Problem[] {
    const { clientCertificate = "", clientKey = "" } = certificates;
    return [
        ...(["caCertificate", "clientCertificate"] as const).flatMap((name) => dateProblems(`${path}.${name}`, certificates[name] ?? "", now)),
        ...(clientCertificate === "" || clientKey === "" ? [] : pairProblems(path, clientCertificate, clientKey)),
    ];
}

/** One of the two without the other; whether a secret is set is known where its value is not. */
export function halfPairProblems(path: string, { certificate, key }: { certificate: boolean; key: boolean }, keyFix: string): Problem[] {
    if (certificate === key) {
        return [];
    }
    return certificate
        ? [
              {
                  path: `${path}.clientKey`,
                  wrong: `is unset, though ${path}.clientCertificate is set`,
                  accepted: "the PEM text of that certificate's key",
                  fix: keyFix,
              },
          ]
        : [{ path: `${path}.clientCertificate`, wrong: "is unset, though its key is set", accepted: pem, fix: `set ${path}.clientCertificate` }];
}

function dateProblems(path: string, text: string, now: Date): Problem[] {
    if (text === "") {
        return [];
    }
    const certificate = read(() => new X509Certificate(text));
    if (certificate === undefined) {
        return [{ path, wrong: "is no certificate", accepted: pem, fix: `set ${path} to the file's text` }];
    }
    const [from, to] = [new Date(certificate.validFrom), new Date(certificate.validTo)];
    const day = (date: Date) => date.toISOString().slice(0, 10);
    if (now > to) {
        return [{ path, value: certificate.subject, wrong: `ended on ${day(to)}`, accepted: "one that is valid", fix: "issue it anew" }];
    }
    return now < from
        ? [{ path, value: certificate.subject, wrong: `begins on ${day(from)}`, accepted: "one that is valid", fix: "check this machine's clock" }]
        : [];
}

function pairProblems(path: string, certificate: string, key: string): Problem[] {
    const shown = read(() => new X509Certificate(certificate));
    const own = read(() => createPrivateKey(key));
    if (own === undefined) {
        return [{ path: `${path}.clientKey`, wrong: "is no private key without a passphrase", accepted: pem }];
    }
    // The certificate's own problem is said already.
    return shown === undefined || shown.checkPrivateKey(own)
        ? []
        : [{ path: `${path}.clientKey`, wrong: `is not the key of ${path}.clientCertificate`, accepted: "the key that it was issued for" }];
}

function read<T>(parse: () => T): T | undefined {
    try {
        return parse();
    } catch {
        return undefined;
    }
}
