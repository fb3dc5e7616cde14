/** Reads documents from files that a test writes. */
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type ReadOptions, readDocuments } from '../../src/data/readers.ts'
import { ReadingLog, type ReadingReport } from '../../src/data/reading-report.ts'
import { folder } from './folders.ts'

export type Content = string | Uint8Array

/** A folder called `data` with the given files. */
export async function dataFolder(files: Readonly<Record<string, Content>>): Promise<string> {
  const dir = join(await folder(), 'data')
  await mkdir(dir)
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(dir, name)), { recursive: true })
    await writeFile(join(dir, name), content)
  }
  return dir
}

export interface Read {
  readonly texts: string[]
  readonly report: ReadingReport
}

/** All documents below the paths, and what was left out. */
export async function readAll(
  paths: readonly string[],
  options: Omit<ReadOptions, 'log'> = {},
): Promise<Read> {
  const log = new ReadingLog()
  const texts: string[] = []
  for await (const { text } of readDocuments(paths, { ...options, log })) texts.push(text)
  return { texts, report: log.report() }
}

/** The documents of one file. */
export async function readFileOf(name: string, content: Content, column?: string): Promise<Read> {
  return readAll([await dataFolder({ [name]: content })], { column })
}
