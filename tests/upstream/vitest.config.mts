import { defineConfig } from "vitest/config";

/** `npm run test:upstream`: real sources and wheels under emulation, for hours; no part of `npm test`. */
export default defineConfig({
    test: {
        include: ["tests/upstream/*.test.ts"],
        pool: "forks",
        fileParallelism: false,
    },
});
