import '../../src/lib/node20.ts'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { COMMANDS } from '../../src/cli/table.ts'
import { flexmesh } from '../support/command-line.ts'

async function printed(...argv: string[]): Promise<{ code: number; out: string; errors: string }> {
  const { code, stdout, stderr } = await flexmesh(...argv)
  return { code, out: stdout, errors: stderr }
}

describe('completion', () => {
  it.each(['bash', 'zsh', 'fish'])('names every command and its options: %s', async (shell) => {
    const { code, out } = await printed('completion', shell)
    expect(code).toBe(0)
    for (const { name } of COMMANDS) expect(out).toContain(name.split(' ')[0])
    expect(out).toMatch(/read-only/)
  })

  it.runIf(existsSync('/bin/bash'))('completes in bash', async () => {
    const { out } = await printed('completion', 'bash')
    const ask = (...words: string[]): string => {
      const list = words.map((word) => `'${word}'`).join(' ')
      const script = `${out}\nCOMP_WORDS=(${list}); COMP_CWORD=${words.length - 1}; _flexmesh; printf '%s\\n' "\${COMPREPLY[@]}"`
      return execFileSync('/bin/bash', ['-c', script]).toString()
    }
    expect(ask('flexmesh', 'dash')).toBe('dashboard\n')
    expect(ask('flexmesh', 'dashboard', '--read')).toBe('--read-only\n')
    expect(ask('flexmesh', 'key', 'ro')).toBe('rotate\n')
    expect(ask('flexmesh', 'service', 'install', '--rep')).toBe('--replace\n')
    expect(ask('flexmesh', 'audit', '--against')).toBe('--against\n')
    expect(ask('flexmesh', 'audit', 'verify', '--against')).toBe('\n')
  })
})

describe('the program', () => {
  it.each([['--version'], ['version'], ['-V']])('tells its version: %s', async (word) => {
    expect((await printed(word)).out).toMatch(/^flexmesh \d+\.\d+\.\d+/)
  })

  it('shows the help of a command in three spellings', async () => {
    const [first, ...others] = await Promise.all([
      printed('help', 'train'),
      printed('train', '--help'),
      printed('train', '-h'),
    ])
    expect(first?.out).toContain('--steps')
    for (const { out } of others) expect(out).toBe(first?.out)
  })

  it('suggests the command that a misspelled one is like, and nothing for others', async () => {
    const { code, errors } = await printed('trian')
    expect([code, errors]).toEqual([2, expect.stringContaining('did you mean "train"?')])
    expect((await printed('frobnicate')).errors).not.toContain('did you mean')
  })
})
