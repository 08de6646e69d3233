import * as fs from "node:fs";
import * as http from "node:http";
import * as https from "node:https";
import type { AddressInfo } from "node:net";
import * as path from "node:path";
import * as yaml from "yaml";
import { afterEach, describe, expect, test, vi } from "vitest";
import { problemLine } from "../../components/internal/errors";
import type { Answers } from "../../init/answers";
import { byFlag } from "../../init/problems";
import { type Reached, reachBuilder, reachCluster, reachRegistry } from "../../init/reach";
import { writeCertificatePair } from "../support/certificatePair";
import { answerLines, completeAnswers } from "../support/initAnswers";
import { standInBuildkits } from "../support/standInBuildkit";
import { temporaryFolders } from "../support/temporaryFolder";

const temporaryFolder = temporaryFolders();
const standInBuildkit = standInBuildkits();

afterEach(() => vi.unstubAllEnvs());

describe("behind an address", () => {
    const told = ({ found, problems }: Reached, answers: Answers) => [...found, ...byFlag(answers, problems).map(problemLine)];

    test("a builder is judged as before every build", async () => {
        const ask = async (answers: Answers) => told(await reachBuilder(answers), answers);
        const native = { ...completeAnswers, builder: await standInBuildkit({ version: "v0.34.2", platforms: ["linux/arm64"] }) };
        expect(await ask(native)).toEqual(["BuildKit v0.34.2 answers, and runs on linux/arm64"]);
        const emulating = { ...completeAnswers, builder: await standInBuildkit({ version: "v0.34.2", platforms: ["linux/amd64", "linux/arm64"] }) };
        expect(await ask(emulating)).toEqual([
            expect.stringMatching(
                /^--builder: tcp:\/\/127\.0\.0\.1:\d+: runs on linux\/amd64 and only emulates linux\/arm64, which turns hours into days; accepted: /,
            ),
        ]);
        const dead = { ...completeAnswers, builder: "tcp://127.0.0.1:1" };
        expect(await ask(dead)).toEqual([
            expect.stringMatching(
                /^--builder: tcp:\/\/127\.0\.0\.1:1: no BuildKit daemon answered within 4 s: nothing listens there \(.*ECONNREFUSED.*\); accepted: a daemon that trusts --builder-cert and is signed by --builder-ca; start buildkitd there, or correct --builder$/,
            ),
        ]);
    });

    test("a registry answers /v2/, with or without a question for a login", async () => {
        const statuses = { open: 200, login: 401, none: 404 };
        const server = http.createServer((request, response) => {
            const status = statuses[current];
            response.writeHead(request.url === "/v2/" ? status : 500, status === 401 ? { "www-authenticate": 'Basic realm="registry"' } : {}).end();
        });
        let current: keyof typeof statuses = "open";
        await new Promise<void>((listening) => server.listen(0, listening));
        const host = `localhost:${(server.address() as AddressInfo).port}`;
        const ask = async (answers: Answers) => told(await reachRegistry(answers), answers);
        const answers = { ...completeAnswers, registry: `${host}/vllm` };
        expect(await ask(answers)).toEqual([`${host} answers, and needs no login`]);
        current = "login";
        expect(await ask(answers)).toEqual([`${host} answers, and wants a login; none is declared, so Docker's own on each machine counts`]);
        expect(await ask({ ...answers, user: "ci" })).toEqual([`${host} answers, and wants a login`]);
        current = "none";
        expect(await ask(answers)).toEqual([
            expect.stringMatching(
                /^--registry: localhost:\d+\/vllm: no registry answers https:\/\/localhost:\d+\/v2\/ \(.*answered 404 Not Found\); accepted: /,
            ),
        ]);
        server.close();
    });

    test("a cluster is the context's API server", async () => {
        const folder = temporaryFolder();
        writeCertificatePair(folder, "cluster");
        const [key, cert] = ["key", "pem"].map((end) => fs.readFileSync(path.join(folder, `cluster.${end}`), "utf8")) as [string, string];
        const server = https.createServer(
            { key, cert },
            (request, response) => void response.end(request.url === "/version" ? '{"gitVersion": "v1.34.1"}' : "{}"),
        );
        await new Promise<void>((listening) => server.listen(0, listening));
        const kubeconfig = (port: number) => ({
            ...{ apiVersion: "v1", kind: "Config", "current-context": "gh200" },
            clusters: [{ name: "c", cluster: { server: `https://localhost:${port}`, "certificate-authority-data": Buffer.from(cert).toString("base64") } }],
            users: [{ name: "u", user: { token: "t" } }],
            contexts: [{ name: "gh200", context: { cluster: "c", user: "u" } }],
        });
        const file = path.join(folder, "kubeconfig");
        fs.writeFileSync(file, yaml.stringify(kubeconfig((server.address() as AddressInfo).port)));
        vi.stubEnv("KUBECONFIG", file);
        const answers = { ...completeAnswers, context: "gh200" };
        expect(told(await reachCluster(answers), answers)).toEqual(["Kubernetes v1.34.1 answers"]);
        expect(answerLines({ ...completeAnswers, context: "other" })).toEqual([
            "--context: other: is no context of the kubeconfig; accepted: gh200, none; set KUBECONFIG, or take --context none for a cluster that is still to come",
        ]);
        server.close();
        fs.writeFileSync(file, yaml.stringify(kubeconfig(1)));
        expect(told(await reachCluster(answers), answers)).toEqual([
            expect.stringMatching(/^--context: gh200: its API server does not answer \(.*ECONNREFUSED.*\); accepted: /),
        ]);
        vi.stubEnv("KUBECONFIG", path.join(folder, "none"));
        expect(answerLines(answers)).toEqual([
            "--context: gh200: there is no kubeconfig here; accepted: a context of the ambient kubeconfig, or none; set KUBECONFIG, or take --context none for a cluster that is still to come",
        ]);
        expect(told(await reachCluster(completeAnswers), completeAnswers)).toEqual(["no cluster is named: an update takes the kubeconfig's current context"]);
    });
});
