import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { buildxStore, instanceName, writeBuilder } from "../../components/builder/buildxStore";
import { connection } from "../support/standInBuildkit";
import { temporaryFolders } from "../support/temporaryFolder";

const temporaryFolder = temporaryFolders();

const secured = connection({ serverName: "builder.internal", caCertificate: "CA\n", clientCertificate: "CERT\n", clientKey: "KEY\n" });

/** Every file below `folder` with its mode. */
function files(folder: string): Record<string, string> {
    return Object.fromEntries(
        fs
            .readdirSync(folder, { withFileTypes: true, recursive: true })
            .filter((entry) => entry.isFile())
            .map((entry) => path.join(entry.parentPath, entry.name))
            .map((file) => [path.relative(folder, file), (fs.statSync(file).mode & 0o777).toString(8)]),
    );
}

describe("the store is where buildx looks", () => {
    test.each([
        [{ BUILDX_CONFIG: "/a", DOCKER_CONFIG: "/b" }, "/a"],
        [{ DOCKER_CONFIG: "/b" }, "/b/buildx"],
        [{}, path.join(os.homedir(), ".docker", "buildx")],
    ])("%j gives %s", (env, store) => {
        expect(buildxStore(env)).toBe(store);
    });
});

describe("a builder in the store", () => {
    test("with TLS has three certificates that only this user reads", () => {
        const store = temporaryFolder();
        writeBuilder(secured, store);
        expect(files(store)).toEqual({
            "certificates/gh200/cacert.pem": "600",
            "certificates/gh200/cert.pem": "600",
            "certificates/gh200/key.pem": "600",
            "instances/gh200": "600",
        });
        expect(fs.statSync(path.join(store, "certificates", "gh200")).mode & 0o777).toBe(0o700);
        expect(fs.readFileSync(path.join(store, "certificates", "gh200", "key.pem"), "utf8")).toBe("KEY\n");
    });

    test("is the JSON of buildx's store.NodeGroup, with the certificates by path and no secret", () => {
        const store = temporaryFolder();
        writeBuilder(secured, store);
        const text = fs.readFileSync(path.join(store, "instances", "gh200"), "utf8");
        expect(JSON.parse(text)).toEqual({
            Name: "gh200",
            Driver: "remote",
            Nodes: [
                {
                    Name: "gh2000",
                    Endpoint: "tcp://10.0.0.1:1234",
                    Platforms: null,
                    DriverOpts: {
                        servername: "builder.internal",
                        cacert: path.join(store, "certificates/gh200/cacert.pem"),
                        cert: path.join(store, "certificates/gh200/cert.pem"),
                        key: path.join(store, "certificates/gh200/key.pem"),
                    },
                    Flags: null,
                    Files: null,
                },
            ],
            Dynamic: false,
        });
        expect(text).not.toContain("KEY");
    });

    test("without TLS has no certificate and no driver option, since buildx refuses an empty one", () => {
        const store = temporaryFolder();
        writeBuilder(connection(), store);
        expect(files(store)).toEqual({ "instances/gh200": "600" });
        const instance = JSON.parse(fs.readFileSync(path.join(store, "instances", "gh200"), "utf8")) as { Nodes: { DriverOpts: object }[] };
        expect(instance.Nodes[0]!.DriverOpts).toEqual({});
    });

    test("names certificates absolutely, where the store is given relatively", () => {
        const folder = temporaryFolder();
        process.chdir(folder);
        writeBuilder(secured, "store");
        const text = fs.readFileSync("store/instances/gh200", "utf8");
        expect(text).toContain(`"cacert":"${folder}/store/certificates/gh200/cacert.pem"`);
    });

    test("is replaced by a later one of its name, and leaves no staging file", () => {
        const store = temporaryFolder();
        writeBuilder(secured, store);
        writeBuilder({ ...secured, endpoint: "tcp://10.0.0.2:1234", clientKey: "OTHER\n" }, store);
        expect(Object.keys(files(store)).sort()).toEqual([
            "certificates/gh200/cacert.pem",
            "certificates/gh200/cert.pem",
            "certificates/gh200/key.pem",
            "instances/gh200",
        ]);
        expect(fs.readFileSync(path.join(store, "certificates", "gh200", "key.pem"), "utf8")).toBe("OTHER\n");
        expect(fs.readFileSync(path.join(store, "instances", "gh200"), "utf8")).toContain("tcp://10.0.0.2:1234");
    });

    test("keeps the builders of other stacks", () => {
        const store = temporaryFolder();
        writeBuilder(secured, store);
        writeBuilder({ ...secured, name: "gh200-b" }, store);
        expect(fs.readdirSync(path.join(store, "instances")).sort()).toEqual(["gh200", "gh200-b"]);
    });
});

describe("the name of a stack's own entry", () => {
    test.each([
        ["gh200-vllm", "prod", "gh200-vllm-prod"],
        ["gh200-vllm", "Prod", /^gh200-vllm-prod-[0-9a-f]{6}$/],
        ["team.llm", "eu_west", /^team-llm-eu-west-[0-9a-f]{6}$/],
        ["1st", "stack", /^s1st-stack-[0-9a-f]{6}$/],
    ])("of %s and %s", (project, stack, name) => expect(instanceName(project, stack)).toEqual(typeof name === "string" ? name : expect.stringMatching(name)));

    test("is one that buildx takes, and no other stack's, whatever their names", () => {
        const name = fc.stringMatching(/^[A-Za-z0-9_.-]{1,20}$/);
        fc.assert(
            fc.property(name, name, name, (project, one, other) => {
                expect(instanceName(project, one)).toMatch(/^[a-z][a-z0-9-]*$/);
                expect(instanceName(project, one) === instanceName(project, other)).toBe(one === other);
            }),
        );
    });
});
