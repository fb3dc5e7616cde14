import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('../../', import.meta.url))

describe('the flags of V8', () => {
  it('are set in a file that the program imports before all others, and to collect garbage', () => {
    const files = readdirSync(`${root}src`, { recursive: true }).filter((name) =>
      String(name).endsWith('.ts'),
    )
    const setting = files
      .filter((name) => readFileSync(`${root}src/${String(name)}`, 'utf8').includes('setFlagsFromString('))
      .sort()
    expect(setting).toEqual(['lib/collect-garbage.ts', 'lib/heap-growth.ts'])
    const [first] = readFileSync(`${root}src/main.ts`, 'utf8').match(/^import .*$/m) ?? []
    expect(first).toBe("import './lib/heap-growth.ts'")
  })
})
