import { mkdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { TrainResult } from '../../src/owner/training-folder.ts'
import { founded } from '../support/command-homes.ts'
import { flexmesh, start } from '../support/command-line.ts'
import { dataFolder } from '../support/documents.ts'
import { cleanUp } from '../support/folders.ts'

let home: string
beforeAll(async () => {
  home = await founded()
})
afterAll(cleanUp)

const note = (i: number): string =>
  `Note ${i}: patient ${i * 37} was stable, values ${i % 7} and ${i % 11}, reviewed.`
const table = (first: number, count: number, column: string): string =>
  `id;${column}\n${Array.from({ length: count }, (_, i) => `MRN-${first + i};${note(first + i)}`).join('\n')}\n`

/** A folder as an institution has it: what can be read, and what cannot. */
async function wardFolder(): Promise<string> {
  const dir = await dataFolder({
    'a.csv': `sep=;\r\n${table(0, 100, 'text')}`,
    'b.csv.gz': gzipSync(`${table(100, 100, 'text')}900;\n`),
    'c.jsonl': `${JSON.stringify({ text: note(300) })}\n{"text":null}\n`,
    'd.txt': note(400),
    'e.txt': note(400).toUpperCase(),
    'f.pdf': '%PDF-1.7',
    '.ipynb_checkpoints/d.txt': 'SECRET draft',
    '~$a.csv': 'SECRET lock',
  })
  const store = await dataFolder({ 'n.txt': note(500) })
  await symlink(join(store, 'n.txt'), join(dir, 'n.txt'))
  await symlink('gone.txt', join(dir, 'o.txt'))
  return dir
}

it('train says what it read, skipped and left out, by count and by name, and keeps it', async () => {
  const dir = await wardFolder()
  const train = ['train', '--home', home, '--name', 'ward', '--data', dir, '--steps', '1']
  const { code, stdout, stderr } = await flexmesh(...train)
  expect([code, stderr]).toEqual([0, ''])
  const lines = stdout.split('\n')
  expect(lines[0]).toBe(
    'read: 1 .csv (data/a.csv); 1 .csv.gz (data/b.csv.gz); 1 .jsonl (data/c.jsonl); 3 .txt (data/d.txt, data/e.txt, data/n.txt); ' +
      'column "text" of data/a.csv, data/b.csv.gz, data/c.jsonl; 1 through symbolic links (data/n.txt)',
  )
  expect(lines[1]).toBe(
    'not read: 1 with a name that begins with a dot (data/.ipynb_checkpoints); 1 .pdf, a kind that cannot be read (data/f.pdf); ' +
      '1 symbolic links without a target (data/o.txt); 1 of the operating system or of an open document (data/~$a.csv)',
  )
  expect(lines[2]).toMatch(
    /^left out: 2 rows without text \(data\/b\.csv\.gz, data\/c\.jsonl\); 1 document equal to an earlier one \(data\/e\.txt\)/,
  )
  expect(lines[3]).toMatch(/^text: \d+ documents, \d+ tokens, \d+ bytes to train on/)
  const again = await flexmesh(...train, '--json')
  const { reading } = JSON.parse(again.stdout) as TrainResult
  expect(reading?.skipped.map(({ what }) => what)).toEqual(['hidden', '.pdf', 'broken-link', 'system'])
  expect(reading?.documents).toContainEqual({ what: 'duplicate', count: 1, first: ['data/e.txt'] })
})

it('train says how much of the text its steps read, and how many steps read all of it', async () => {
  const dir = await dataFolder({ 'a.csv': table(0, 2000, 'text') })
  const train = ['train', '--home', home, '--name', 'large', '--data', dir, '--steps', '1']
  const { stdout } = await flexmesh(...train)
  expect(stdout).toMatch(
    /warning: 1 step reads \d\.\d+ % of the text, 768 of about \d+ tokens; --steps \d+ reads as many tokens as the text has/,
  )
})

it('train asks for the column of the text if none is called so, and reads the one that is named', async () => {
  const dir = await dataFolder({ 'a.csv': table(0, 200, 'Note') })
  const train = ['train', '--home', home, '--name', 'column', '--data', dir, '--steps', '1']
  const refused = await flexmesh(...train)
  expect([refused.code, refused.stdout]).toEqual([2, ''])
  expect(refused.stderr).toContain('a.csv has no column "text"; its columns are "id", "Note"; choose')
  const { code, stdout } = await flexmesh(...train, '--column', 'Note')
  expect([code, stdout]).toEqual([0, expect.stringContaining('column "Note" of data/a.csv')])
  const other = await flexmesh(...train, '--column', 'id')
  expect(other.stderr).toContain('was begun on')
  expect(other.stderr).toContain('(column Note)')
  const scored = await flexmesh(
    'evaluate',
    '--home',
    home,
    '--data',
    dir,
    '--column',
    'Note',
    '--kilobytes',
    '4',
  )
  expect(scored.code).toBe(0)
})

it('train says what it did not read if it finds no text', async () => {
  const dir = await dataFolder({ 'a.pdf': '%PDF', '.b.txt': 'hidden', 'c.txt': '\n' })
  await mkdir(join(dir, 'empty'))
  const { code, stderr } = await flexmesh('train', '--home', home, '--name', 'none', '--data', dir)
  expect(code).toBe(1)
  expect(stderr).toContain(
    '(not read: 1 with a name that begins with a dot (data/.b.txt); 1 .pdf, a kind that cannot be read (data/a.pdf); 1 file without text)',
  )
})

it('a running node says what it read to the command, and that the training has finished', async () => {
  const dir = await wardFolder()
  const node = start('start', '--home', home, '--port', '0')
  await node.line('is up as')
  const { code, stdout } = await flexmesh(
    'train',
    '--home',
    home,
    '--name',
    'beside',
    '--data',
    dir,
    '--steps',
    '1',
  )
  expect([code, stdout]).toEqual([0, expect.stringMatching(/^read: 1 \.csv /)])
  expect(stdout).toContain('\nnot read: ')
  await node.line('training beside: finished')
  expect((await node.interrupt()).stdout).not.toContain('training beside: stopped')
})
