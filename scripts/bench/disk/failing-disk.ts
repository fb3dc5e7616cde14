/**
 * A disk that fails on command, for nodes in processes of their own: failing-disk.c, which a C compiler translates first, and
 * the numbers in a file by which it is told what fails. Linux only.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, openSync, readSync, writeSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const SOURCE = fileURLToPath(new URL('failing-disk.c', import.meta.url))
/** Offsets of the numbers in the shared file, in numbers of 8 bytes; as in failing-disk.c. */
const [CALLS, FIRST, COUNT, ERRNO, FAILED] = [0, 1, 2, 3, 4] as const
const NUMBER_BYTES = 8
const NUMBERS = 5

/** Ways in which a call fails, with the number that stands for each in failing-disk.c: Linux's errno, or less. */
export const FAULTS = {
  'no space left': 28,
  'input/output error': 5,
  'read-only file system': 30,
  'half a write': 0,
  kill: -1,
} as const

export type Fault = keyof typeof FAULTS

export class FailingDisk {
  readonly #library: string
  readonly #file: string
  readonly #fd: number

  private constructor(library: string, file: string, fd: number) {
    this.#library = library
    this.#file = file
    this.#fd = fd
  }

  /** @param work an existing folder, outside of those that shall fail. @throws if there is no C compiler `cc`. */
  static async create(work: string): Promise<FailingDisk> {
    const [library, file] = [join(work, 'failing-disk.so'), join(work, 'faults')]
    execFileSync('cc', ['-shared', '-fPIC', '-O2', '-Wall', '-Wextra', '-o', library, SOURCE, '-ldl'])
    await writeFile(file, new Uint8Array(NUMBERS * NUMBER_BYTES))
    return new FailingDisk(library, file, openSync(file, 'r+'))
  }

  /** Environment of a process for which calls that change something below `folder` may fail. */
  environment(folder: string): Readonly<Record<string, string>> {
    return { LD_PRELOAD: this.#library, FAULT_FILE: this.#file, FAULT_DIR: folder }
  }

  /** Number of calls so far that could have failed. */
  calls(): number {
    return this.#read(CALLS)
  }

  /** Number of calls that have failed. */
  failed(): number {
    return this.#read(FAILED)
  }

  /** Let `count` calls fail after `after` more calls have succeeded. */
  failAfter(after: number, count: number, fault: Fault): void {
    this.heal()
    this.#write(ERRNO, FAULTS[fault])
    this.#write(COUNT, count)
    this.#write(FIRST, this.calls() + after + 1)
  }

  heal(): void {
    this.#write(FIRST, 0)
  }

  close(): void {
    closeSync(this.#fd)
  }

  #read(index: number): number {
    const bytes = Buffer.alloc(NUMBER_BYTES)
    readSync(this.#fd, bytes, 0, NUMBER_BYTES, index * NUMBER_BYTES)
    return Number(bytes.readBigInt64LE())
  }

  #write(index: number, value: number): void {
    const bytes = Buffer.alloc(NUMBER_BYTES)
    bytes.writeBigInt64LE(BigInt(value))
    writeSync(this.#fd, bytes, 0, NUMBER_BYTES, index * NUMBER_BYTES)
  }
}
