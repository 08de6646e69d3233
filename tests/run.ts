import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";

/*
 * `npm test`: runs the suites one after another, the quick ones first, and closes with one line of totals.
 * `npm test -- unit components` runs only those; `npm run test:deployment` the live tests of pods, rules and
 * stages. A suite is a folder under tests/, with the tests that stand beside the code they are of; one
 * without a test fails.
 */

interface Totals {
    passed: number;
    failed: number;
    skipped: number;
}

const tests = __dirname;
const root = path.dirname(tests);

/** Suites of vitest: the folders whose tests they run, and further arguments. */
const vitestSuites: Record<string, string[]> = {
    unit: ["tests/unit/", "tools/"],
    components: ["tests/components/"],
    package: ["tests/package/"],
    program: ["tests/program/"],
    // A live test owns a sandbox and its ports, and the machine's few cores.
    live: ["tests/live/graph.test.ts", "sandbox/", "--no-file-parallelism"],
    deployment: ["tests/live/", "--exclude", "tests/live/graph.test.ts", "--no-file-parallelism"],
};

/** What takes longer than a person waits for after each change. */
const onlyByName = ["deployment"];

const suites: Record<string, { folder: string; run: () => Totals }> = {
    ...Object.fromEntries(
        Object.entries(vitestSuites).map(([name, args]) => [name, { folder: path.join(root, args[0] ?? ""), run: () => vitest(args) }]),
    ),
    runtime: { folder: path.join(tests, "runtime", "run"), run: runtime },
};

function vitest(args: string[]): Totals {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-tests-"));
    const report = path.join(folder, "report.json");
    try {
        const cli = path.join(root, "node_modules", "vitest", "vitest.mjs");
        const status = run(process.execPath, [cli, "run", ...args, "--reporter=default", "--reporter=json", `--outputFile.json=${report}`]);
        const totals = fs.existsSync(report) ? readReport(report) : { passed: 0, failed: 0, skipped: 0 };
        return atLeastOneFailure(totals, status);
    } finally {
        fs.rmSync(folder, { recursive: true, force: true });
    }
}

function readReport(file: string): Totals {
    const report = JSON.parse(fs.readFileSync(file, "utf8")) as Record<string, number>;
    return {
        passed: report.numPassedTests ?? 0,
        failed: report.numFailedTests ?? 0,
        skipped: (report.numPendingTests ?? 0) + (report.numTodoTests ?? 0),
    };
}

/** Python and C++, by pytest, which closes with a line such as `1 failed, 75 passed in 34.42s`. */
function runtime(): Totals {
    const { status, stdout } = spawnSync("bash", [path.join(tests, "runtime", "run"), "--fast"], {
        cwd: root,
        stdio: ["ignore", "pipe", "inherit"],
        encoding: "utf8",
        maxBuffer: 2 ** 28,
    });
    process.stdout.write(stdout ?? "");
    const closing = (stdout ?? "").split("\n").filter((line) => / in \d+\.\d+s/.test(line)).at(-1) ?? "";
    const count = (word: string) => Number(new RegExp(`(\\d+) ${word}`).exec(closing)?.[1] ?? 0);
    return atLeastOneFailure({ passed: count("passed"), failed: count("failed") + count("error"), skipped: count("skipped") }, status);
}

/** A file that cannot be loaded, an unhandled error or a suite without a test is a failure that no test counts. */
function atLeastOneFailure(totals: Totals, status: number | null): Totals {
    const vacuous = totals.passed + totals.failed === 0;
    return status !== 0 || vacuous ? { ...totals, failed: Math.max(1, totals.failed) } : totals;
}

function run(command: string, args: string[]): number | null {
    return spawnSync(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] }).status;
}

function main(named: string[]): number {
    const unknown = named.filter((name) => suites[name] === undefined);
    if (unknown.length > 0) {
        console.error(`tests: ${unknown.join(", ")}: no such suite; accepted: ${Object.keys(suites).join(", ")}`);
        return 1;
    }
    const sum: Totals = { passed: 0, failed: 0, skipped: 0 };
    const failing: string[] = [];
    for (const [name, { folder, run: runSuite }] of Object.entries(suites)) {
        const wanted = named.length === 0 ? fs.existsSync(folder) && !onlyByName.includes(name) : named.includes(name);
        if (!wanted) {
            continue;
        }
        console.log(`tests/${name}`);
        const totals = runSuite();
        sum.passed += totals.passed;
        sum.failed += totals.failed;
        sum.skipped += totals.skipped;
        if (totals.failed > 0) {
            failing.push(name);
        }
    }
    if (failing.length > 0) {
        console.log(`failed in ${failing.join(", ")}`);
    }
    console.log(`${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`);
    return failing.length > 0 || sum.passed === 0 ? 1 : 0;
}

process.exitCode = main(process.argv.slice(2));
