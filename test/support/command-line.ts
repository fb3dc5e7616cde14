/** The program as a process, as a user runs it. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const tsx = fileURLToPath(new URL('../../node_modules/tsx/dist/cli.mjs', import.meta.url))

interface Ended {
  code: number
  stdout: string
  stderr: string
}

export function flexmesh(...args: string[]): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(process.execPath, [tsx, main, ...args], { maxBuffer: 2 ** 24 }, (error, stdout, stderr) =>
      resolve({
        code: typeof error?.code === 'number' ? error.code : error === null ? 0 : 1,
        stdout,
        stderr,
      }),
    )
  })
}

/** A process of its own group, so that a kill reaches the program and not only its loader. */
export function begin(...args: string[]): ChildProcess {
  return spawn(process.execPath, ['--import', 'tsx', main, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
}

export async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGKILL')
  await once(child, 'exit')
}

/** The first line that contains `text`, from either stream. */
export async function line(child: ChildProcess, text: string): Promise<string> {
  const seen: string[] = []
  return new Promise((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      if (stream === null) continue
      createInterface({ input: stream }).on('line', (found) => {
        seen.push(found)
        if (found.includes(text)) resolve(found)
      })
    }
    child.once('exit', () => reject(new Error(`ended without "${text}": ${seen.join('\n')}`)))
  })
}
