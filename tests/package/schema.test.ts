import * as fs from "node:fs";
import * as path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { componentSchema, type PackageSchema, type Property, SCHEMA_FILE, schemaText } from "../../docs/componentSchema";
import { componentsPage } from "../../docs/componentsPage";

/** Inferred by Pulumi from the TypeScript as it now is. */
let schema: PackageSchema;
beforeAll(() => {
    schema = componentSchema();
}, 180_000);

test("components/schema.json and docs/components.md are what `npm run docs` makes of the components", () => {
    expect(fs.readFileSync(SCHEMA_FILE, "utf8")).toBe(schemaText(schema));
    expect(fs.readFileSync(path.join(__dirname, "../../docs/components.md"), "utf8")).toBe(componentsPage(schema));
});

describe("the schema that other languages see", () => {
    const properties = (): [string, Property][] =>
        [...Object.entries(schema.resources), ...Object.entries(schema.types)].flatMap(([token, spec]) =>
            [spec.inputProperties, spec.properties].flatMap((record) =>
                Object.entries(record ?? {}).map(([key, property]): [string, Property] => [`${token}.${key}`, property]),
            ),
        );

    test("has a component for each class of the package", () => {
        expect(Object.keys(schema.resources).sort()).toEqual(
            [
                "BuildStage",
                "CmmImage",
                "CmmPlatform",
                "Gh200Node",
                "ImageRelease",
                "LmcacheImage",
                "LmcacheServer",
                "ManagedAllocator",
                "RemoteBuilder",
                "VllmServer",
            ].map((name) => `gh200-vllm:index:${name}`),
        );
    });

    test("types every property", () => {
        expect(JSON.stringify(schema)).not.toContain("pulumi.json#/Any");
    });

    test("describes every property in words of its own", () => {
        expect(properties().length).toBeGreaterThan(100);
        expect(
            properties()
                .filter(([, { description }]) => !description?.trim() || description.includes("[object Object]"))
                .map(([name]) => name),
        ).toEqual([]);
    });

    test("marks what is secret, wherever it is handed in, so that every language encrypts it", () => {
        const named = /(password|gitTokens|hfToken|clientKey|kubeconfig)$/i;
        const secret = properties().flatMap(([name, property]) => (property.secret ? [name.replace("gh200-vllm:index:", "")] : []));
        expect([...new Set(secret)].sort()).toEqual(
            [
                "BuilderArgs.clientKey",
                "BuildStage.gitTokens",
                "CmmPlatform.gitTokens",
                "ImageRelease.password",
                "RegistryArgs.password",
                "RegistryArgs.pullPassword",
                "RemoteBuilder.clientKey",
                "RemoteBuilderArgs.clientKey",
                "ServingArgs.hfToken",
                "ServingArgs.kubeconfig",
                "VllmServer.hfToken",
                "VllmServer.kubeconfig",
                "VllmServer.pullPassword",
            ].sort(),
        );
        expect(properties().flatMap(([name, property]) => (named.test(name) && !property.secret ? [name] : []))).toEqual([]);
    });

    test("says the default of every input that may be left out", () => {
        const silent = Object.entries(schema.resources).flatMap(([token, { inputProperties = {}, requiredInputs = [] }]) =>
            Object.entries(inputProperties)
                .filter(([key, { description }]) => !requiredInputs.includes(key) && !/Default: |Default and only|Required where/.test(description ?? ""))
                .map(([key]) => `${token}.${key}`),
        );
        expect(silent).toEqual([]);
    });
});
