import { execFile } from 'node:child_process'
import { link, rename, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, describe, expect, it } from 'vitest'
import { findFiles } from '../../src/data/find-files.ts'
import { ReadingLog, type ReadingReport } from '../../src/data/reading-report.ts'
import { type Content, dataFolder, readAll } from '../support/documents.ts'
import { cleanUp, folder } from '../support/folders.ts'

afterAll(cleanUp)

async function found(...paths: string[]): Promise<{ names: string[]; report: ReadingReport }> {
  const log = new ReadingLog()
  const names: string[] = []
  for await (const { name } of findFiles(paths, log)) names.push(name)
  return { names, report: log.report() }
}

const skipped = ({ skipped }: ReadingReport): Record<string, number> =>
  Object.fromEntries(skipped.map(({ what, count }) => [what, count]))

const files = (...names: string[]): Record<string, Content> =>
  Object.fromEntries(names.map((name) => [name, `text of ${name}`]))

describe('the files below a folder', () => {
  it('are read by extension, in any letter case and compressed, sorted by name', async () => {
    const names = ['A.TXT', 'b.Md', 'c.jsonl', 'd.ndjson.gz', 'e.csv', 'f.TSV.GZ', 'g.parquet', 'h.txt.gz']
    const dir = await dataFolder(files(...names, 'deep/er/i.md'))
    expect((await found(dir)).names).toEqual([...names, 'deep/er/i.md'].map((name) => `data/${name}`).sort())
  })

  it('are named by kind and with the first names if they cannot be read', async () => {
    const dir = await dataFolder(
      files('a.txt', 'b.pdf', 'c.PDF', 'd.pdf', 'e.pdf', 'f.json', 'README', 'x.parquet.gz'),
    )
    const { names, report } = await found(dir)
    expect(names).toEqual(['data/a.txt'])
    expect(report.skipped).toEqual([
      { what: 'no-extension', count: 1, first: ['data/README'] },
      { what: '.pdf', count: 4, first: ['data/b.pdf', 'data/c.PDF', 'data/d.pdf'] },
      { what: '.json', count: 1, first: ['data/f.json'] },
      { what: '.parquet.gz', count: 1, first: ['data/x.parquet.gz'] },
    ])
  })

  it('are passed over and counted if they belong to the system, a notebook, a trash or an open document', async () => {
    const dir = await dataFolder(
      files(
        'ward.txt',
        '._ward.txt',
        '.hidden.md',
        '.ipynb_checkpoints/ward-checkpoint.md',
        '.Trash-1000/files/erased.txt',
        '.git/description.txt',
        '__MACOSX/._ward.txt',
        '~$ward.csv',
        '.~lock.ward.csv#',
        'THUMBS.DB',
        'Desktop.ini',
        '$RECYCLE.BIN/erased.txt',
        'lost+found/1.txt',
        '@eaDir/ward.txt',
      ),
    )
    const { names, report } = await found(dir)
    expect(names).toEqual(['data/ward.txt'])
    expect(skipped(report)).toEqual({ hidden: 6, system: 7 })
  })

  it('may have a hidden name if they are given by name', async () => {
    const dir = await dataFolder(files('.notes/a.txt', '.b.txt', 'c.txt'))
    const { names } = await found(dir, join(dir, '.notes'), join(dir, '.b.txt'))
    expect(names).toEqual(['data/c.txt', '.notes/a.txt', '.b.txt'])
  })

  it('are read once if paths overlap', async () => {
    const dir = await dataFolder(files('a.txt', 'sub/b.txt'))
    for (const paths of [
      [dir, dir],
      [dir, join(dir, 'sub')],
      [dir, join(dir, 'a.txt')],
      [join(dir, 'a.txt'), dir],
      [join(dir, 'sub'), dir],
      [join(dir, 'a.txt'), join(dir, 'a.txt'), dir],
    ]) {
      const { names, report } = await found(...paths)
      expect(names).toHaveLength(2)
      expect(skipped(report)['again']).toBeGreaterThan(0)
    }
  })

  it('refuse devices, and files of another kind that are given by name', async () => {
    const dir = await dataFolder(files('a.json', 'b.odt'))
    await expect(found('/dev/null')).rejects.toMatchObject({ code: 'usage' })
    await expect(found(join(dir, 'a.json'))).rejects.toThrow(/a\.json: files of this kind .*jq -c/)
    await expect(found(join(dir, 'b.odt'))).rejects.toThrow(/\.txt, \.md, /)
    await expect(found(join(dir, 'none.txt'))).rejects.toMatchObject({ code: 'not-found' })
  })

  it('do not include named pipes, which would never end', async () => {
    const dir = await dataFolder(files('a.txt'))
    await promisify(execFile)('mkfifo', [join(dir, 'pipe.txt')])
    const { names, report } = await found(dir)
    expect(names).toEqual(['data/a.txt'])
    expect(skipped(report)).toEqual({ 'not-regular': 1 })
    await expect(found(join(dir, 'pipe.txt'))).rejects.toThrow(/neither a file nor a folder/)
  })

  it('are named if their names are not UTF-8', async () => {
    const dir = await dataFolder(files('a.txt', 'b.txt'))
    const latin1 = Buffer.concat([Buffer.from(`${dir}/`), Buffer.from('Größe.txt', 'latin1')])
    await rename(join(dir, 'b.txt'), latin1)
    const { names, report } = await found(dir)
    expect(names).toEqual(['data/a.txt'])
    expect(skipped(report)).toEqual({ 'not-utf8-name': 1 })
  })
})

describe('symbolic links', () => {
  it('are followed to files and folders elsewhere, and counted', async () => {
    const dir = await dataFolder(files('own.txt'))
    const store = await dataFolder(files('b0.txt', 'b1', 'dir/x.txt', 'dir/.y.txt', 'dir/z.pdf'))
    await symlink(join(store, 'b0.txt'), join(dir, 'n0.txt'))
    await symlink(join(store, 'b1'), join(dir, 'n1.txt'))
    await symlink(join(store, 'dir'), join(dir, 'linked'))
    const { names, report } = await found(dir)
    expect(names).toEqual(['data/linked/x.txt', 'data/n0.txt', 'data/n1.txt', 'data/own.txt'])
    expect(report.links).toEqual([
      { what: 'link', count: 3, first: ['data/linked', 'data/n0.txt', 'data/n1.txt'] },
    ])
    expect(skipped(report)).toEqual({ hidden: 1, '.pdf': 1 })
    expect((await readAll([dir])).texts).toContain('text of b1')
  })

  it('to the same place are followed once', async () => {
    const dir = await dataFolder(files('a.txt'))
    const store = await dataFolder(files('dir/x.txt', 'dir/y.txt'))
    await symlink(join(store, 'dir/x.txt'), join(dir, 'k.txt'))
    await symlink(join(store, 'dir/x.txt'), join(dir, 'l.txt'))
    await symlink(join(store, 'dir'), join(dir, 'm'))
    await symlink(join(store, 'dir'), join(dir, 'n'))
    await symlink(join(dir, 'a.txt'), join(dir, 'o.txt'))
    const { names, report } = await found(dir)
    expect(names).toEqual(['data/a.txt', 'data/k.txt', 'data/m/y.txt'])
    expect(skipped(report)).toEqual({ again: 4 })
  })

  it('that make a cycle end, and one to a folder above is not followed', async () => {
    const dir = await dataFolder(files('sub/a.txt'))
    const store = await dataFolder(files('b.txt'))
    await symlink(store, join(dir, 'store'))
    await symlink(dir, join(store, 'back'))
    await symlink(store, join(store, 'self'))
    await symlink('..', join(dir, 'sub/up'))
    await symlink('../..', join(dir, 'above'))
    await symlink('round', join(dir, 'round'))
    const { names, report } = await found(dir)
    expect(names).toEqual(['data/store/b.txt', 'data/sub/a.txt'])
    expect(skipped(report)).toEqual({ 'link-above': 1, again: 3, 'broken-link': 1 })
  })

  it('without a target are named', async () => {
    const dir = await dataFolder(files('a.txt'))
    await symlink('gone.txt', join(dir, 'b.txt'))
    expect((await found(dir)).report.skipped).toEqual([
      { what: 'broken-link', count: 1, first: ['data/b.txt'] },
    ])
  })

  it('to a folder that is passed over in its place are followed, as those of data stores are', async () => {
    const dir = await dataFolder(files('.store/1f', '.store/2e.txt'))
    await symlink('.store/1f', join(dir, 'a.txt'))
    await symlink('.store/2e.txt', join(dir, 'b.txt'))
    expect((await found(dir)).names).toEqual(['data/a.txt', 'data/b.txt'])
  })

  it('may be the --data path itself', async () => {
    const dir = await dataFolder(files('a.txt'))
    const path = join(await folder(), 'latest')
    await symlink(dir, path)
    expect((await found(path, dir)).names).toEqual(['latest/a.txt'])
  })

  it('do not concern hard links, whose text is left out as a duplicate', async () => {
    const dir = await dataFolder(files('a.txt'))
    await link(join(dir, 'a.txt'), join(dir, 'b.txt'))
    expect((await found(dir)).names).toEqual(['data/a.txt', 'data/b.txt'])
  })
})
