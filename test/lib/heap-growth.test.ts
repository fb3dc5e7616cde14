import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('../../', import.meta.url))

describe('the flags of V8', () => {
  it('are set in one file, which the program imports before all others', () => {
    const files = readdirSync(`${root}src`, { recursive: true }).filter((name) =>
      String(name).endsWith('.ts'),
    )
    const setting = files.filter((name) =>
      readFileSync(`${root}src/${String(name)}`, 'utf8').includes('setFlagsFromString('),
    )
    expect(setting).toEqual(['lib/heap-growth.ts'])
    const [first] = readFileSync(`${root}src/main.ts`, 'utf8').match(/^import .*$/m) ?? []
    expect(first).toBe("import './lib/heap-growth.ts'")
  })
})
