import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import * as https from "node:https";
import * as path from "node:path";
import bcrypt from "bcryptjs";
import { httpHealth } from "./health";
import { type Layout, writeFile } from "./layout";
import { ensureAuthority, ensureCertificate } from "./pki";
import { portOf } from "./ports";
import { type Daemon } from "./processes";

export interface Registry {
    /** As it stands in image references. */
    readonly address: string;
    readonly username: string;
    readonly passwordFile: string;
    readonly caFile: string;
    readonly daemon: Daemon;
}

const USERNAME = "sandbox";

/**
 * Distribution's registry on loopback. TLS although it is loopback, because the docker-build plug-in refuses plain HTTP
 * for an index, and because what is tested should be what production does.
 */
export async function prepareRegistry(layout: Layout, binary: string): Promise<Registry> {
    const port = await portOf(layout, "registry");
    await ensureAuthority(layout, "registry");
    const tls = await ensureCertificate(layout, {
        authority: "registry",
        name: "registry",
        usage: "server",
        commonName: "registry",
        names: ["DNS:localhost", "IP:127.0.0.1"],
    });

    const passwordFile = path.join(layout.registry, "password");
    const htpasswd = path.join(layout.registry, "htpasswd");
    if (!fs.existsSync(passwordFile)) {
        writeFile(passwordFile, randomBytes(24).toString("base64url"));
    }
    const password = fs.readFileSync(passwordFile, "utf8");
    if (
        !fs.existsSync(htpasswd) ||
        !bcrypt.compareSync(
            password,
            fs
                .readFileSync(htpasswd, "utf8")
                .trim()
                .slice(USERNAME.length + 1),
        )
    ) {
        // The lowest cost there is: the registry checks the hash on every request, and the password has 192 random bits.
        writeFile(htpasswd, `${USERNAME}:${bcrypt.hashSync(password, 4)}\n`);
    }

    const config = path.join(layout.registry, "config.yml");
    writeFile(
        config,
        JSON.stringify(
            {
                version: "0.1",
                log: { level: "warn", accesslog: { disabled: true } },
                storage: { filesystem: { rootdirectory: path.join(layout.registry, "data") }, delete: { enabled: true } },
                auth: { htpasswd: { realm: "gh200-sandbox", path: htpasswd } },
                http: { addr: `127.0.0.1:${port}`, tls: { certificate: tls.cert, key: tls.key } },
            },
            null,
            2,
        ),
    );

    return {
        address: `localhost:${port}`,
        username: USERNAME,
        passwordFile,
        caFile: tls.ca,
        daemon: {
            name: "registry",
            command: [binary, "serve", config],
            // No spans are collected here; without this the registry looks for a collector.
            env: { OTEL_TRACES_EXPORTER: "none" },
            files: [config, htpasswd, tls.cert],
            // Ready means: speaks TLS with our certificate and knows our password.
            probe: () =>
                httpHealth(https, {
                    host: "127.0.0.1",
                    port,
                    path: "/v2/",
                    servername: "localhost",
                    ca: fs.readFileSync(tls.ca),
                    auth: `${USERNAME}:${password}`,
                }),
            timeoutSeconds: 20,
        },
    };
}
