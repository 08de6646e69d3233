import * as fs from "node:fs";
import * as path from "node:path";
import { describe, expect, it } from "vitest";
import { catalogue, entryOf, folderOf, goFolders } from "./catalogue";

const manifest = JSON.parse(fs.readFileSync(path.join(__dirname, "..", "package.json"), "utf8")) as { dependencies: Record<string, string> };

describe("catalogue", () => {
    it.each(catalogue.filter((entry) => entry.plugin !== undefined))("has plug-in $plugin at the version of its npm package", ({ plugin, version }) => {
        expect(version).toBe(manifest.dependencies[`@pulumi/${plugin}`]);
    });

    it("asks for a pulumi at least as new as the npm SDK", () => {
        expect(entryOf("pulumi").onPath?.minimum).toBe(manifest.dependencies["@pulumi/pulumi"]);
    });

    it.each(catalogue.filter((entry) => entry.package.startsWith(".") && entry.plugin !== undefined))(
        "has the version of $name in its own source too",
        (entry) => {
            const source = fs.readFileSync(path.join(folderOf(entry), entry.package, "main.go"), "utf8");
            expect(/const version = "([^"]+)"/.exec(source)?.[1]).toBe(entry.standIn ? `${entry.version}+stand-in` : entry.version);
        },
    );

    it.each(goFolders().map((folder) => [path.basename(folder), folder]))("pins %s with checksums", (_, folder) => {
        expect(fs.existsSync(path.join(folder, "go.sum"))).toBe(true);
    });

    it("uses every folder under tools/go", () => {
        expect(fs.readdirSync(path.join(__dirname, "go")).sort()).toEqual(
            goFolders()
                .map((folder) => path.basename(folder))
                .sort(),
        );
    });
});
