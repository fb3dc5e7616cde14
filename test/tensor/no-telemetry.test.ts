import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { afterAll, describe, expect, it } from 'vitest'
import { cleanUp, folder } from '../support/folders.ts'

afterAll(cleanUp)

const run = promisify(execFile)
const COMPUTE = `
  const { onnxEngine } = await import('./src/tensor/onnx-engine.ts')
  const { measureGflops } = await import('./src/tensor/measure.ts')
  await measureGflops(onnxEngine(), 1)
  console.log('computed')`

/** Files that a program leaves in an empty home folder. ONNX Runtime is silent on machines that look like CI. */
async function filesAfter(program: string): Promise<string[]> {
  const home = await folder()
  const env = { PATH: process.env['PATH'], HOME: home, TMPDIR: home, XDG_CACHE_HOME: `${home}/cache` }
  const { stdout } = await run(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
    env,
  })
  expect(stdout.trim()).toBe('computed')
  const files = await readdir(home, { recursive: true })
  return files.filter((name) => !name.startsWith('tsx-') && !name.startsWith('node-compile-cache'))
}

describe('the telemetry of ONNX Runtime', () => {
  it('leaves no device id and no events behind', async () => {
    expect(await filesAfter(COMPUTE)).toEqual([])
  })

  it('is off in threads, too', async () => {
    const program = `
      await import('./src/lib/no-telemetry.ts')
      const { startThread } = await import('./src/lib/start-thread.ts')
      const { pathToFileURL } = await import('node:url')
      const { mkdir, writeFile } = await import('node:fs/promises')
      const dir = process.env.HOME + '/tsx-thread'
      await mkdir(dir)
      await writeFile(dir + '/package.json', '{ "type": "module" }')
      const entry = dir + '/thread.ts'
      await writeFile(entry, ${JSON.stringify(COMPUTE.replaceAll('./src/', `${process.cwd()}/src/`))})
      startThread(pathToFileURL(entry), {})`
    expect(await filesAfter(program)).toEqual([])
  })

  it('is switched off by the entry of the program', async () => {
    expect(await readFile('src/main.ts', 'utf8')).toContain("import './lib/no-telemetry.ts'")
  })
})
