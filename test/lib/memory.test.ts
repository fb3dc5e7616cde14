import { totalmem } from 'node:os'
import { describe, expect, it } from 'vitest'
import { defaultMemoryBudget, freeMemory, gigabytes, parseBytes } from '../../src/lib/memory.ts'

describe('an amount of memory', () => {
  it.each([
    ['12GB', 12e9],
    ['12 gb', 12e9],
    ['1.5GiB', 1.5 * 2 ** 30],
    ['512MiB', 512 * 2 ** 20],
    ['700 MB', 700e6],
    ['4000000000', 4e9],
    ['0.1kB', 100],
  ])('is read from "%s"', (text, bytes) => {
    expect(parseBytes(text)).toBe(bytes)
  })

  it.each(['', 'GB', '12 G', '-1GB', '1e9', '12GBB', '1.GB', '12 GB 3 MB', '0x10', 'Infinity'])(
    'is not read from "%s"',
    (text) => {
      expect(parseBytes(text)).toBeUndefined()
    },
  )

  it('is printed in megabytes below one gigabyte', () => {
    expect([gigabytes(572_600_000), gigabytes(10_940_000_000)]).toEqual(['573 MB', '10.9 GB'])
  })
})

describe('the default budget', () => {
  it('is three quarters of the memory that is free', () => {
    const before = freeMemory()
    const budget = defaultMemoryBudget()
    expect(before).toBeGreaterThan(0)
    expect(before).toBeLessThanOrEqual(totalmem())
    // Other processes allocate and free memory between the two calls.
    expect(Math.abs(budget / (0.75 * before) - 1)).toBeLessThan(0.2)
  })
})
