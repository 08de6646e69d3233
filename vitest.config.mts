import { defineConfig } from "vitest/config";

/**
 * tests/run.ts runs the suites. Each file has a process of its own, since
 * Pulumi's mocks, its configuration and the working folder belong to the process.
 */
export default defineConfig({
    test: {
        include: ["tests/{unit,components,package,program,live,examples}/**/*.test.ts", "{tools,sandbox}/**/*.test.ts"],
        pool: "forks",
        // Twice what the slowest of the pure and mocked tests takes on two busy cores; live tests set their own.
        testTimeout: 20_000,
    },
});
