/** Reads the specifications in protocols/: their text, their tables and their vectors. Knows nothing about the code. */
import { readdirSync, readFileSync } from 'node:fs'
import type { Vector } from '../vectors/vector.ts'

const folder = new URL('../../protocols/', import.meta.url)

/** Names of the folders in protocols/, one for each protocol. */
export const PROTOCOL_NAMES: readonly string[] = readdirSync(folder, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name)
  .sort()

/** Text of a file in protocols/, by its path there. */
export function protocolFile(path: string): string {
  return readFileSync(new URL(path, folder), 'utf8')
}

export function specification(protocol: string): string {
  return protocolFile(`${protocol}/README.md`)
}

export interface VectorFile extends Vector {
  readonly file: string
}

/** The vectors of a protocol, in order of file name. */
export function vectorFiles(protocol: string): VectorFile[] {
  const files = readdirSync(new URL(`${protocol}/vectors/`, folder)).sort()
  return files.map((file) => {
    const vector: Vector = JSON.parse(protocolFile(`${protocol}/vectors/${file}`))
    return { file, ...vector }
  })
}

/** Cells of the table under a heading, without its head row and without backticks. */
export function tableUnder(markdown: string, heading: string): string[][] {
  return tableRows(markdown.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '')
}

/** Cells of the table rows in a text that holds one table, without its head row and without backticks. */
export function tableRows(markdown: string): string[][] {
  const lines = markdown.split('\n').filter((line) => line.startsWith('| ') && !line.startsWith('| ---'))
  return lines.slice(1).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim().replaceAll('`', '')),
  )
}
