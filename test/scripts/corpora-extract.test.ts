/** The extractors of corpora, which read documents from unpacked packages, on made-up inputs. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { deflateSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { cleanDocuments, type RawDocument } from '../../scripts/corpora/extract/document.ts'
import { articles } from '../../scripts/corpora/extract/french-codes.ts'
import { termTexts } from '../../scripts/corpora/extract/gene-ontology.ts'
import { htmlText } from '../../scripts/corpora/extract/html.ts'
import { statements } from '../../scripts/corpora/extract/metamath.ts'
import { chapters, characterVectors } from '../../scripts/corpora/extract/novels.ts'
import { pythonOf, scriptsOf } from '../../scripts/corpora/extract/source-code.ts'
import { blocks } from '../../scripts/corpora/extract/sword.ts'
import { glosses } from '../../scripts/corpora/extract/wordnet.ts'

let dir: string

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flexmesh-corpora-'))
})

afterEach(async () => {
  await rm(dir, { recursive: true, force: true })
})

async function put(path: string, content: string | Uint8Array): Promise<void> {
  await mkdir(dirname(join(dir, path)), { recursive: true })
  await writeFile(join(dir, path), content)
}

describe('extractors', () => {
  it('read the words and the gloss of a synset from WordNet', () => {
    const data =
      '  1 This software and database is licensed | to you\n' +
      '00001740 03 a 02 able_to(p) 0 big_dog 0 001 ~ 00001930 n 0000 | having the power; "able to swim"  \n'
    expect([...glosses(data, 'adj')]).toEqual([
      { id: 'adj:00001740', text: 'able to, big dog (adj): having the power; "able to swim"' },
    ])
  })

  it('describe a term of the Gene Ontology with synonyms and parents, and skip terms without a definition', () => {
    const terms = [
      { key: 1, id: 'GO:1', name: 'growth', ontology: 'BP', definition: 'Getting larger. [GOC:ab, PMID:1]' },
      { key: 2, id: 'GO:2', name: 'process', ontology: 'BP', definition: null },
      { key: 3, id: 'GO:3', name: 'all', ontology: 'universal', definition: 'x' },
    ]
    const synonyms = ['GO:7', 'increase', 'rise'].map((synonym) => ({ key: 1, synonym }))
    const parents = [
      { key: 1, parent: 2, relation: 'isa' },
      { key: 1, parent: 2, relation: 'part_of' },
      { key: 1, parent: 99, relation: 'isa' },
    ]
    expect([...termTexts({ terms, synonyms, parents })]).toEqual([
      {
        id: 'GO:1',
        text: 'growth (biological process)\nGetting larger.\nAlso known as: increase; rise.\nIs a: process; Part of: process.',
      },
    ])
  })

  it('read Metamath statements with their comment and the hypotheses in scope, without proofs', () => {
    const database = `
      $( =-=-=-= A heading =-=-=-= $)
      $( Axiom of nothing in particular, first. (Contributed by NM, 1-Jan-1999.) $)
      ax-1 $a |- ( ph -> ph ) $.
      \${ outer $e |- th $.
        \${ mp.1 $e |- ph $. mp.2 $e |- ( ph -> ps ) $.
          $( The rule of \` modus ponens \` , see ~ ax-1 for more. $)
          mp $p |- ps $= wph ax-1 $. $}
        $( Too short. $)
        tiny $p |- th $= outer $.
        uncommented $p |- th $= outer $.
      $}`
    expect([...statements(database)]).toEqual([
      { id: 'ax-1', text: 'Axiom ax-1. Axiom of nothing in particular, first.\n|- ( ph -> ph )' },
      {
        id: 'mp',
        text: 'Theorem mp. The rule of modus ponens , see ax-1 for more.\n|- th  &  |- ph  &  |- ( ph -> ps )  =>  |- ps',
      },
    ])
  })

  it('read the blocks of a SWORD module without notes and markup', async () => {
    const osis = '<title>One</title><verse osisID="a">In the<note>or: at</note> beginning &amp; end</verse>'
    const packed = deflateSync(osis)
    const index = Buffer.alloc(24)
    index.writeUInt32LE(0, 12)
    index.writeUInt32LE(packed.length, 16)
    await put('module/nt.bzs', index)
    await put('module/nt.bzz', packed)
    expect([...blocks(join(dir, 'module'))]).toEqual([{ id: 'nt1', text: '\nOne\nIn the beginning & end' }])
  })

  it('read character vectors from an R lazy-load database, and skip other values', () => {
    const int = (value: number): Buffer => {
      const bytes = Buffer.alloc(4)
      bytes.writeInt32BE(value)
      return bytes
    }
    const text = (value: string): Buffer[] => [int(0x40009), int(value.length), Buffer.from(value)]
    const header = [Buffer.from('X\n'), int(3), int(0x40200), int(0x30500), int(5), Buffer.from('UTF-8')]
    const record = (...value: Buffer[]): Buffer => {
      const whole = Buffer.concat([...header, ...value])
      return Buffer.concat([int(whole.length), deflateSync(whole)])
    }
    const missing = [int(9), int(-1)]
    const database = Buffer.concat([
      record(int(13), int(1), int(7)),
      record(int(16), int(3), ...text('EMMA'), ...missing, ...text('end')),
    ])
    expect([...characterVectors(database)]).toEqual([['EMMA', '', 'end']])
  })

  it('cut novels at chapters, not at tables of contents', () => {
    const body = Array.from({ length: 30 }, (_, i) => `line ${i}`)
    const found = [...chapters(['CHAPTER I', 'CHAPTER II', 'CHAPTER I', ...body, 'CHAPTER II', ...body])]
    expect(found.map((text) => text.split('\n').length)).toEqual([33, 31])
  })

  it('find the articles in the sections of a code of law', () => {
    const article = (cid: string, texteHtml: string | null) => ({
      type: 'article',
      data: { cid, num: 'L1', texte: 'plain', texteHtml },
    })
    const section = {
      type: 'section',
      data: { title: 'Section 1' },
      children: [article('A', '<p>Un<br/>deux&nbsp;&eacute;</p>'), article('B', null)],
    }
    const empty = { type: 'article', data: { cid: 'C', num: 'L2', texte: null } }
    expect([...articles({ type: 'code', data: { title: 'Code' }, children: [section, empty] })]).toEqual([
      { id: 'A', text: 'Article L1 (Section 1)\nUn\ndeux é' },
      { id: 'B', text: 'Article L1 (Section 1)\nplain' },
    ])
  })

  it('extract the readable text of HTML', () => {
    expect(
      htmlText(
        '<html><head><title>t</title></head><body><nav>menu</nav><h1>One\n two</h1><p>a <b>b</b>\nc</p><pre>x  y\n\n  z</pre></body></html>',
      ),
    ).toBe('One two\na b c\nx  y\n\n  z')
  })

  it('select source files that people wrote', async () => {
    const long = 'x = 1\n'.repeat(100)
    await put('py/usr/lib/a.py', long)
    await put('py/usr/lib/big.py', 'x'.repeat(300_001))
    await put('py/usr/lib/latin.py', Buffer.from('# \xe9\n', 'latin1'))
    expect([...(pythonOf(['py'])(() => join(dir, 'py')) as Iterable<RawDocument>)]).toEqual([
      { id: 'a.py', text: long },
      { id: 'latin.py', text: '# é\n' },
    ])
    await put('js/src/a.mjs', long)
    await put('js/dist/a.js', long)
    await put('js/src/a.min.js', long)
    await put('js/src/a.d.ts', long)
    await put('js/src/one-line.js', 'y'.repeat(3000))
    await put('js/src/tiny.ts', 'x')
    const scripts = [...(scriptsOf(['js'])(() => join(dir, 'js')) as Iterable<RawDocument>)]
    expect(scripts.map(({ id }) => id)).toEqual(['js/src/a.mjs'])
  })

  it('are followed by cleaning, which drops short texts and texts that differ only in case, spaces and punctuation', async () => {
    const text = 'A sentence that is long enough to be kept, with some words to spare.'
    const result = await cleanDocuments([
      { id: '1', text: `${text}\u00a0 \r\n\r\n\r\n\r\nE\u0301nd\u200b\u0007.` },
      { id: '2', text: `${text.toUpperCase()}\nÉnd` },
      { id: '3', text: 'short' },
    ])
    expect(result).toEqual({
      documents: [{ id: '1', text: `${text}\n\nÉnd.` }],
      tooShort: 1,
      duplicates: 1,
    })
  })
})
