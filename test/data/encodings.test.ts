import { afterAll, describe, expect, it } from 'vitest'
import { readFileOf } from '../support/documents.ts'
import { cleanUp } from '../support/folders.ts'

afterAll(cleanUp)

const GERMAN = 'Die Patientin klagt über Übelkeit; später wurde die Größe des Befundes geprüft.\n'
const FRENCH = 'L’élève a été reçue à l’hôpital, où « CAFÉ » et « ÉTÉ » étaient écrits.\n'
const windows1252 = (text: string): Buffer => Buffer.from(text.replaceAll('’', '\x92'), 'latin1')
/** Bytes of a German text in the encoding of DOS (code page 850). */
const dos = (text: string): Buffer =>
  Buffer.from(
    text.replace(/[äöüÄÖÜß]/g, (letter) =>
      String.fromCharCode({ ä: 0x84, ö: 0x94, ü: 0x81, Ä: 0x8e, Ö: 0x99, Ü: 0x9a, ß: 0xe1 }[letter] ?? 0),
    ),
    'latin1',
  )

const textOf = async (bytes: Uint8Array): Promise<string> =>
  (await readFileOf('notes.txt', bytes)).texts.join('')

describe('the encoding of a file', () => {
  it('is Windows-1252 for Western text, also with capitals at the end of quotations', async () => {
    const text = `${GERMAN.repeat(3)}${FRENCH}Il dit : «CAFÉ»\nL’ÉTÉ’\n`
    expect(await textOf(windows1252(text))).toBe(text)
  })

  it.each([
    [
      'Windows-1252 after UTF-8',
      Buffer.concat([Buffer.from(GERMAN.repeat(9)), windows1252(FRENCH)]),
      /line 1 is in UTF-8, but line 10 is not/,
    ],
    [
      'UTF-8 after Windows-1252',
      Buffer.concat([windows1252(GERMAN.repeat(40)), Buffer.from(FRENCH)]),
      /line 41 is in UTF-8, but line 1 is not/,
    ],
    [
      'one UTF-8 line among many',
      Buffer.concat([windows1252(FRENCH.repeat(99)), Buffer.from('später\n'), windows1252(GERMAN)]),
      /line 100 is in UTF-8, but line 1 is not/,
    ],
    [
      'Russian in UTF-8 after Windows-1252',
      Buffer.concat([windows1252(GERMAN.repeat(40)), Buffer.from('Привет\n')]),
      /line 41 is in UTF-8/,
    ],
    [
      'a damaged byte in UTF-8',
      Buffer.concat([Buffer.from(GERMAN), Buffer.from('sp\xe4ter\n', 'latin1')]),
      /damaged or mixes encodings: .*byte 0xE4 at offset \d+ \(line 2\)/,
    ],
    [
      'lines that end with \\r',
      Buffer.concat([Buffer.from(GERMAN.replace('\n', '\r')), windows1252(GERMAN)]),
      /line 1 is in UTF-8, but line 2 is not/,
    ],
  ])('is refused, naming the lines, for %s', async (_, bytes, message) => {
    await expect(textOf(bytes)).rejects.toMatchObject({
      code: 'not-text',
      message: expect.stringMatching(message),
    })
  })

  it('is refused with the lines in JSON Lines and CSV, too', async () => {
    const lines = [Buffer.from('{"text":"später"}\n'), Buffer.from('{"text":"sp\xe4ter"}\n', 'latin1')]
    await expect(readFileOf('a.jsonl', Buffer.concat(lines))).rejects.toThrow(
      /line 1 is in UTF-8, but line 2 is not/,
    )
    const rows = [Buffer.from('id,text\n1,später\n'), Buffer.from('2,sp\xe4ter\n', 'latin1')]
    await expect(readFileOf('a.csv', Buffer.concat(rows))).rejects.toThrow(
      /line 2 is in UTF-8, but line 3 is not/,
    )
  })

  it.each([
    [
      'text appended to UTF-16 with a mark',
      Buffer.concat([
        Buffer.from(`\ufeff${GERMAN}`, 'utf16le'),
        Buffer.from(`${'appended by another program, '.repeat(2)}\n`),
      ]),
      /mixes encodings: it begins in UTF-16, but from about byte 1\d\d on/,
    ],
    [
      'UTF-16 appended to text',
      Buffer.concat([Buffer.from(GERMAN), Buffer.from(GERMAN, 'utf16le')]),
      /zero byte/,
    ],
    ['German of DOS', dos(GERMAN.replaceAll('ü', 'ue').repeat(5)), /is not valid UTF-8/],
    [
      'Japanese in ISO-2022-JP',
      Buffer.from('Report\n\x1b$B$3$l$O\x1b(B\n', 'latin1'),
      /escape sequence of ISO-2022 at offset 7; convert it with "iconv -f ISO-2022-JP/,
    ],
    ['a PDF document', Buffer.from('%PDF-1.7\n'), /is a PDF document, not text: extract its text/],
    [
      'a workbook',
      Buffer.from('PK\x03\x04[Content_Types].xml'),
      /is a ZIP archive, as \.xlsx and \.docx files are/,
    ],
    ['RTF', Buffer.from('{\\rtf1\\ansi Patient}'), /is an RTF document, not text: save it as plain text/],
    ['a gzip archive', Buffer.from('\x1f\x8b\x08\0', 'latin1'), /is a gzip archive, not text: add \.gz/],
    [
      'a pointer of Git LFS',
      Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n'),
      /git lfs pull/,
    ],
  ])('is refused for %s, saying what it is', async (_, bytes, message) => {
    await expect(textOf(bytes)).rejects.toMatchObject({
      code: 'not-text',
      message: expect.stringMatching(message),
    })
  })

  const inTable = (text: string, table: Record<string, number>): Buffer =>
    Buffer.from(
      text.replace(/[^\0-\x7f]/g, (letter) => String.fromCharCode(table[letter] ?? 0x3f)),
      'latin1',
    )
  it.each([
    [
      'Slovene in Windows-1250',
      inTable('Življenje je lepo, če imaš časa za prijatelje in družino; študij še ni končan.\n'.repeat(4), {
        Ž: 0x8e,
        ž: 0x9e,
        č: 0xe8,
        š: 0x9a,
      }),
    ],
    [
      'German of old Macintosh computers',
      inTable('Die Patientin klagt über Übelkeit; später wurde die Größe geprüft.\n'.repeat(4), {
        ä: 0x8a,
        ö: 0x9a,
        ü: 0x9f,
        Ü: 0x86,
        ß: 0xa7,
      }),
    ],
    [
      'Turkish in Windows-1254',
      inTable('Hastanın ateşi dün akşam yükseldi, sabahleyin ağrısı azaldı ve taburcu edildi.\n'.repeat(4), {
        ı: 0xfd,
        ş: 0xfe,
        ğ: 0xf0,
        ü: 0xfc,
      }),
    ],
    [
      'Czech in Windows-1250',
      inTable(
        'Pacient byl přijat včera večer, měl horečku a bolesti; dnes je propuštěn domů, léčba končí.\n'.repeat(
          4,
        ),
        {
          ř: 0xf8,
          č: 0xe8,
          ě: 0xec,
          š: 0x9a,
          ů: 0xf9,
          é: 0xe9,
          í: 0xed,
        },
      ),
    ],
  ])('is refused for %s, which differs from Windows-1252 in few letters', async (_, bytes) => {
    await expect(textOf(bytes)).rejects.toMatchObject({ code: 'not-text' })
  })

  it.each([
    [
      'Icelandic',
      'Sjúklingurinn var útskrifaður í gær; það þarf að fylgjast með honum, því hann er ennþá veikur.\n',
    ],
    [
      'Finnish',
      'Potilas kotiutettiin eilen; hänellä ei ole enää särkyä, ja lääkitys päättyy pian. Käynti sovittu.\n',
    ],
    [
      'Danish',
      'Patienten blev indlagt i går; hun får medicin, og prøven er sendt, så vi afventer svaret på mandag. Være.\n',
    ],
    [
      'Italian',
      'La paziente è stata dimessa lunedì; la febbre è più bassa, però la terapia continuerà finché serve.\n',
    ],
    [
      'Spanish',
      'La niña mejoró después del año; ¿qué más? Según el médico, la presión está estable. ¡Qué alegría!\n',
    ],
    [
      'Portuguese',
      'A paciente não está com febre; a avaliação será amanhã, às três, e a medicação já terminou.\n',
    ],
    [
      'Swedish',
      'Patienten skrevs ut i går; hon mår bättre, och läkaren följer upp på måndag. Även provet är bra.\n',
    ],
  ])('is Windows-1252 for %s', async (_, text) => {
    expect(await textOf(Buffer.from(text.repeat(4), 'latin1'))).toBe(text.repeat(4))
  })

  it('is UTF-16 for Chinese and for lines of signs, which look like pairs of ASCII characters', async () => {
    const chinese = '敏捷的棕色狐狸跳过懒狗。这是一个关于医院的测试文本，患者情况稳定，继续观察。\n'.repeat(
      20,
    )
    const signs = `${'…'.repeat(80)}\n${'═'.repeat(80)}\n`
    expect(await textOf(Buffer.from(`\ufeff${chinese}${signs}`, 'utf16le'))).toBe(chinese + signs)
  })
})
