import { execFile } from 'node:child_process'
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, describe, expect, it } from 'vitest'
import { cleanUp, folder } from '../support/folders.ts'

const script = fileURLToPath(new URL('../../scripts/serve/vllm.sh', import.meta.url))
afterAll(cleanUp)

/** Runs the script with fake vllm and python3 programs first in the path. */
async function serve(...args: string[]): Promise<string> {
  const bin = await folder()
  await writeFile(join(bin, 'vllm'), '#!/bin/sh\nprintf "%s\\n" "$@"\n')
  await writeFile(
    join(bin, 'python3'),
    '#!/bin/sh\nsed -n \'s/.*"composition": "\\([^"]*\\)".*/\\1/p\' "$3"\n',
  )
  for (const name of ['vllm', 'python3']) await chmod(join(bin, name), 0o755)
  const env = { PATH: `${bin}:${process.env['PATH']}` }
  return (await promisify(execFile)('sh', [script, ...args], { env })).stdout
}

describe('the script that serves an export with vLLM', () => {
  it('names the model by its composition and leaves every sampling setting to the node', async () => {
    const dir = await folder()
    await writeFile(join(dir, 'composition.json'), '{\n  "composition": "sha256:abc"\n}\n')
    const said = (await serve(dir, '--tensor-parallel-size', '4')).trimEnd().split('\n')
    expect(said.slice(0, 4)).toEqual(['serve', dir, '--served-model-name', 'sha256:abc'])
    expect(said.slice(-2)).toEqual(['--tensor-parallel-size', '4'])
    expect(said.join(' ')).toContain('--generation-config vllm --host 127.0.0.1')
  })

  it('prints its usage if the folder is not an export', async () => {
    await expect(serve(await folder())).rejects.toThrow(/flexmesh compose --export wrote/)
  })
})
