import * as fs from "node:fs";
import * as path from "node:path";
import * as ts from "typescript";
import { expect, test } from "vitest";
import { sections } from "../../components/config/schema";
import { validDaysOf } from "../../approval/facts";
import { repositoryRoot } from "../support/stackFile";

/** The files that a module loads when it runs: imports of types alone are gone by then. */
function loads(file: string): string[] {
    const source = ts.createSourceFile(file, fs.readFileSync(path.join(repositoryRoot, file), "utf8"), ts.ScriptTarget.ES2022, true);
    return source.statements.flatMap((statement) => {
        if (!(ts.isImportDeclaration(statement) || ts.isExportDeclaration(statement)) || statement.moduleSpecifier === undefined) {
            return [];
        }
        const clause = ts.isImportDeclaration(statement) ? statement.importClause : undefined;
        const specifier = (statement.moduleSpecifier as ts.StringLiteral).text;
        return clause?.isTypeOnly === true || !specifier.startsWith(".") ? [] : [`${path.join(path.dirname(file), specifier)}.ts`];
    });
}

function closure(file: string, seen = new Set<string>()): Set<string> {
    if (!seen.has(file)) {
        seen.add(file);
        loads(file).forEach((next) => closure(next, seen));
    }
    return seen;
}

test("npm run approve loads nothing of the program that it approves: its own files and the tools that find Pulumi", () => {
    const files = [...closure("approval/approve.ts")];
    expect(files).toContain("approval/tree.ts");
    expect(files.filter((file) => !/^(approval|tools)\//.test(file))).toEqual([]);
    expect(files.filter((file) => file.startsWith("approval/") && /stackChange|gate/.test(file))).toEqual([]);
});

test("an approval lies as long as the schema says where the configuration says nothing", () => {
    expect(validDaysOf({})).toBe(sections.approval.parse({ required: false }).validDays);
});
