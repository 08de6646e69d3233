import tseslint from "typescript-eslint";

/** What a formatter does not see; formatting itself is Prettier's. */
export default tseslint.config(
    { ignores: ["components/plugin.js", "**/node_modules", "bin", ".gh200", ".sandbox", "examples"] },
    ...tseslint.configs.recommendedTypeChecked,
    {
        languageOptions: { parserOptions: { project: "./tsconfig.json" } },
        rules: {
            // `const { secret, ...rest }` is how a property is left out.
            "@typescript-eslint/no-unused-vars": ["error", { ignoreRestSiblings: true }],
            "@typescript-eslint/no-unused-expressions": ["error", { allowTernary: true, allowShortCircuit: true }],
            // An async function without await turns what it throws into a rejection.
            "@typescript-eslint/require-await": "off",
        },
    },
    // Vitest's matchers are of type any.
    {
        files: ["tests/**/*.ts", "**/*.test.ts"],
        rules: {
            "@typescript-eslint/no-unsafe-assignment": "off",
            "@typescript-eslint/no-unsafe-return": "off",
            "@typescript-eslint/no-unnecessary-type-assertion": "off",
        },
    },
    { files: ["**/*.{cjs,mjs,mts}"], ...tseslint.configs.disableTypeChecked },
);
