import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import * as ts from "typescript";
import { repositoryRoot } from "./stackFile";

/*
 * The messages of refusals and failures, read from the source: what varies is `…`, and the text ends where it goes on to
 * say what is accepted. Texts that are made elsewhere (of another program, of a library) are not ours and not collected.
 */

const folders = ["approval", "ci", "components", "drift", "init", "nodecheck", "pins", "policy", "prune", "report", "sandbox", "status", "tools"];
const errors = ["Error", "Problem", "Refusal", "RunError", "Unanswered"];
/** What a command answers to a flag that it does not know: it explains itself. */
const usage = /^(usage: |npm run )/;
/** Functions whose results are messages though nothing around them says so. */
const namers: Record<string, string[]> = {
    "components/serving/diagnosis.ts": ["cause", "rejectedCause", "pendingCause", "pullCause", "startCause", "endedCause", "memoryCause", "notCreated"],
};

/** Every message, with the files it is in. */
export function messages(): Map<string, string[]> {
    const found = new Map<string, string[]>();
    const files = execFileSync("git", ["ls-files", ...folders, "assets"], { cwd: repositoryRoot, encoding: "utf8" }).split("\n");
    const add = (file: string, texts: string[]) => {
        for (const text of texts.map(shorten).filter((short) => /[a-z]{2}/i.test(short) && !usage.test(short))) {
            found.set(text, [...new Set([...(found.get(text) ?? []), file])]);
        }
    };
    const python: string[] = [];
    for (const file of files.filter((name) => name !== "" && !/\.test\.ts$/.test(name) && fs.existsSync(path.join(repositoryRoot, name)))) {
        const text = fs.readFileSync(path.join(repositoryRoot, file), "utf8");
        const first = text.slice(0, text.indexOf("\n"));
        if (/\.(ts|mjs)$/.test(file)) {
            add(file, inTypeScript(file, text));
        } else if (file.endsWith(".py") || /^(#!.*python|""")/.test(first)) {
            python.push(file);
        } else if (/^#!.*sh\b/.test(first)) {
            add(file, inShell(text));
        } else if (file.endsWith(".cu")) {
            add(file, inCuda(text));
        }
    }
    for (const [file, texts] of Object.entries(inPython(python))) {
        add(file, texts);
    }
    return found;
}

/** Up to what is accepted and how it is mended, which the message says itself. */
function shorten(text: string): string {
    return (text.replace(/^accepted: .*/, "is not accepted").split(/;|\n/)[0] ?? "")
        .replace(/(…[\s:,.]*)+$/, (end) => end.trimEnd())
        .replace(/…+/g, "…")
        .trim();
}

function inTypeScript(file: string, text: string): string[] {
    const source = ts.createSourceFile(file, text, ts.ScriptTarget.ES2022, true);
    const found: string[] = [];
    // Functions of the file that make a problem of what is `wrong`, their first parameter.
    const makers = new Set([...text.matchAll(/const (\w+) = \(wrong: string/g)].map((match) => match[1] ?? ""));
    const visit = (node: ts.Node): void => {
        if (ts.isPropertyAssignment(node) && node.name.getText() === "wrong") {
            found.push(...variants(node.initializer));
        } else if (ts.isVariableDeclaration(node) && node.name.getText() === "wrong" && node.initializer !== undefined) {
            found.push(...variants(node.initializer));
        } else if (ts.isPropertyAssignment(node) && node.name.getText() === "error" && ts.isStringLiteral(node.initializer)) {
            found.push(node.initializer.text);
        } else if (ts.isNewExpression(node) && errors.includes(node.expression.getText().split(".").at(-1) ?? "")) {
            found.push(...node.arguments!.slice(0, 1).flatMap(variants));
        } else if (ts.isCallExpression(node) && (makers.has(node.expression.getText()) || /^pulumi\.log\.(warn|error)$/.test(node.expression.getText()))) {
            found.push(...node.arguments.slice(0, 1).flatMap(variants));
        } else if (ts.isCallExpression(node) && node.expression.getText() === "console.error") {
            // Progress goes to stderr too, and has no colon.
            found.push(
                ...node.arguments
                    .slice(0, 1)
                    .flatMap(variants)
                    .filter((line) => line.includes(":")),
            );
        } else if (ts.isFunctionDeclaration(node) && namers[file]?.includes(node.name?.text ?? "")) {
            found.push(...returned(node));
        }
        ts.forEachChild(node, visit);
    };
    visit(source);
    return found;
}

/** The texts that an expression can be. */
function variants(expression: ts.Expression): string[] {
    if (ts.isStringLiteralLike(expression)) {
        return [expression.text];
    }
    if (ts.isTemplateExpression(expression)) {
        return [expression.head.text + expression.templateSpans.map(({ literal }) => `…${literal.text}`).join("")];
    }
    if (ts.isParenthesizedExpression(expression)) {
        return variants(expression.expression);
    }
    if (ts.isConditionalExpression(expression)) {
        return [...variants(expression.whenTrue), ...variants(expression.whenFalse)];
    }
    if (ts.isBinaryExpression(expression)) {
        const [left, right] = [variants(expression.left), variants(expression.right)];
        return expression.operatorToken.kind === ts.SyntaxKind.PlusToken ? left.flatMap((a) => right.map((b) => a + b)) : [...left, ...right];
    }
    if (ts.isArrayLiteralExpression(expression)) {
        return expression.elements.flatMap(variants);
    }
    if (ts.isCallExpression(expression) && ts.isPropertyAccessExpression(expression.expression) && expression.expression.name.text === "join") {
        return variants(expression.expression.expression);
    }
    const name = ts.isCallExpression(expression) ? expression.expression : expression;
    return ts.isIdentifier(name) ? declared(name) : ["…"];
}

/** What a constant or function of the same file is. */
function declared(name: ts.Identifier): string[] {
    for (const statement of name.getSourceFile().statements) {
        if (ts.isFunctionDeclaration(statement) && statement.name?.text === name.text) {
            return returned(statement);
        }
        const declarations = ts.isVariableStatement(statement) ? statement.declarationList.declarations : [];
        const constant = declarations.find((declaration) => declaration.name.getText() === name.text);
        if (constant?.initializer !== undefined) {
            return variants(constant.initializer);
        }
    }
    return ["…"];
}

function returned(declaration: ts.FunctionDeclaration): string[] {
    const found: string[] = [];
    const visit = (node: ts.Node): void => {
        if (ts.isReturnStatement(node) && node.expression !== undefined) {
            found.push(...variants(node.expression));
        }
        ts.forEachChild(node, visit);
    };
    visit(declaration);
    return found;
}

/** `echo "TEXT" >&2`, and `fail "TEXT"` of a script whose function `fail` puts a name before it. */
function inShell(text: string): string[] {
    const prefix = /^fail\(\) \{\s+echo "(.*)\$\*" >&2/m.exec(text)?.[1] ?? "";
    const echoed = [...text.matchAll(/echo "(.*)" >&2/g)].map((match) => match[1] ?? "").filter((line) => !line.endsWith("$*"));
    const failed = [...text.matchAll(/\bfail "(.*?)"(?= ;;|$)/gm)].map((match) => prefix + (match[1] ?? ""));
    return [...echoed, ...failed].map((line) => line.replace(/\$\((?:[^()]|\([^()]*\))*\)|\$\{[^}]*\}|\$\w+/g, "…"));
}

/** What the allocator writes to stderr or gives back in `why`. */
function inCuda(text: string): string[] {
    return [...text.matchAll(/(?:fprintf\(stderr,|snprintf\(why, n,) "(.*?)(?:\\n)?"/g)].map((match) => (match[1] ?? "").replace(/%[.\d]*[a-z]+/g, "…"));
}

/** First arguments of `refuse`, `fail` and `problems.append`; in refusals.py, which keeps its reasons in tables, every sentence but the docstrings. */
const pythonReader = `
import ast, json, sys

def text(node):
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
    return "…"

def said(file):
    tree = ast.parse(open(file, encoding="utf8").read())
    nodes = list(ast.walk(tree))
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) in ("refuse", "fail", "problems.append") and node.args]
    found = [text(call.args[0]) for call in calls]
    if file.endswith("/refusals.py"):
        parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        found += [text(node) for node in nodes if isinstance(node, (ast.Constant, ast.JoinedStr)) and not {id(node)} & (parts | docstrings) and len(text(node).split()) > 3]
    return found

print(json.dumps({file: said(file) for file in sys.argv[1:]}))
`;

function inPython(files: string[]): Record<string, string[]> {
    const answer = execFileSync("python3", ["-c", pythonReader, ...files], { cwd: repositoryRoot, encoding: "utf8" });
    return JSON.parse(answer) as Record<string, string[]>;
}
