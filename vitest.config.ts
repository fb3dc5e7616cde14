import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

/** Files that need several nodes or start processes, which use every core. */
const NODES = 'test/{cli,commands,node}/**/*.test.ts'

/** Files that replace a module for themselves, and so cannot share loaded modules with other files. */
const MOCKING = readdirSync('test', { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.test.ts'))
  .map((name) => `test/${name.replaceAll('\\', '/')}`)
  .filter((path) => readFileSync(path, 'utf8').includes('vi.mock('))

/** One for each core; more than 8 would not be faster, and each holds models in memory. */
const WORKERS = Math.min(availableParallelism(), 8)

// biome-ignore lint/style/noDefaultExport: vitest reads its configuration from the default export.
export default defineConfig({
  test: {
    // These times only end a test that hangs; no result depends on the speed of the machine.
    testTimeout: 120_000,
    hookTimeout: 300_000,
    restoreMocks: true,
    unstubEnvs: true,
    unstubGlobals: true,
    coverage: { provider: 'v8', include: ['src/**'], reporter: ['text', 'json-summary', 'html'] },
    // The files of one worker share loaded modules: loading them takes longer than most files.
    isolate: false,
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: [NODES, ...MOCKING],
          maxWorkers: WORKERS,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: 'mocks',
          include: MOCKING,
          isolate: true,
          maxWorkers: WORKERS,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: 'node',
          include: [NODES],
          exclude: MOCKING,
          // One after the other: nodes train and compute on every core.
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
})
