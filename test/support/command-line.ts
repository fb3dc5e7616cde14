/** The program as its users meet it: in this process, which is fast, or in a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { runProgram } from '../../src/cli/program.ts'

export const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
/** Arguments of Node that run the program from source. */
export const fromSource = ['--import', 'tsx', main]

export interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Run a command line in this process, with its output as to a pipe. */
export function flexmesh(...args: string[]): Promise<Ended> {
  return start(...args).ended
}

/** A command line that runs in this process. */
export interface Run {
  readonly ended: Promise<Ended>
  /** The first line on either stream that contains `text`. @throws Error if the command ends without one. */
  line(text: string): Promise<string>
  /** Interrupt the command, as Ctrl-C does. */
  interrupt(): Promise<Ended>
}

export function start(...args: string[]): Run {
  const abort = new AbortController()
  const text = { stdout: '', stderr: '' }
  const waiting = new Set<() => void>()
  const stream = (name: keyof typeof text) => ({
    write: (part: string) => {
      text[name] += part
      for (const look of waiting) look()
    },
  })
  const streams = { stdout: stream('stdout'), stderr: stream('stderr') }
  const ended = runProgram(args, streams, abort.signal).then((code) => ({ code, ...text }))
  return {
    ended,
    line: (wanted) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const found = `${text.stdout}${text.stderr}`.split('\n').find((line) => line.includes(wanted))
          if (found === undefined) return
          waiting.delete(look)
          resolve(found)
        }
        waiting.add(look)
        look()
        ended.then(() => reject(new Error(`ended without "${wanted}": ${JSON.stringify(text)}`)), reject)
      }),
    interrupt: () => {
      abort.abort()
      return ended
    },
  }
}

/** The program as a process of its own, without the loader that would swallow signals. */
export function spawned(...args: string[]): ChildProcess {
  return spawn(process.execPath, [...fromSource, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
}

/** How a process ends, with everything that it prints; -1 for one that a signal ended. */
export async function outcome(child: ChildProcess): Promise<Ended> {
  const text = { stdout: '', stderr: '' }
  child.stdout?.on('data', (part: Buffer) => {
    text.stdout += part.toString()
  })
  child.stderr?.on('data', (part: Buffer) => {
    text.stderr += part.toString()
  })
  const [code] = (await once(child, 'close')) as [number | null]
  return { code: code ?? -1, ...text }
}

export async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGKILL')
  await once(child, 'exit')
}

/** The first line of a process, on either stream, that contains `text`. */
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
