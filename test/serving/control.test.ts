/** What a command line learns from a running node: results, progress, and why it was refused. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { InputError, PolicyError } from '../../src/lib/errors.ts'
import { type Control, callControl, startControl } from '../../src/serving/control.ts'

let dir: string
let control: Control

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flexmesh-test-'))
  control = await startControl(join(dir, 'socket'), {
    refuse: async function* () {
      throw new InputError('usage', 'publish: expected a name')
    },
    judge: async function* () {
      yield { done: 0 }
      throw new PolicyError('norm-bound', 'too large')
    },
  })
})

afterEach(async () => {
  await control.close()
  await rm(dir, { recursive: true })
})

const call = (command: string): Promise<unknown> =>
  callControl(join(dir, 'socket'), command, {}, { signal: AbortSignal.timeout(10_000) })

describe('a running node', () => {
  it('refuses wrong usage as a command line does, whose exit code hangs on it', async () => {
    await expect(call('refuse')).rejects.toMatchObject({
      family: 'input',
      code: 'usage',
      message: 'publish: expected a name',
    })
  })

  it('names codes of other families beside its own', async () => {
    await expect(call('judge')).rejects.toMatchObject({
      family: 'input',
      code: 'io',
      message: 'too large',
      fields: { remote: 'norm-bound' },
    })
  })
})
