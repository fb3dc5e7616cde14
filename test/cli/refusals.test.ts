import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { founded, initialised } from '../support/command-homes.ts'
import { flexmesh, start } from '../support/command-line.ts'
import { cleanUp, folder, SMALL_MODEL } from '../support/folders.ts'
import { shortText } from '../support/texts.ts'

let home: string

beforeAll(async () => {
  home = await founded()
})
afterAll(cleanUp)

/** Run a command line that is refused. @returns its only output: one sentence on stderr. */
async function refused(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await flexmesh(...args)
  expect([code, stdout]).toEqual([1, ''])
  expect(stderr).toMatch(/^flexmesh: [^\n]+\n$/)
  return stderr
}

/** `refused`, for refusals that count as wrong usage too. */
async function refusedWithAnyCode(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await flexmesh(...args)
  expect([[1, 2].includes(code), stdout]).toEqual([true, ''])
  expect(stderr).toMatch(/^flexmesh: [^\n]+\n$/)
  return stderr
}

/** A text file, and a training on it. */
async function trainOn(content: string | Buffer, name = 'x'): Promise<string[]> {
  const file = join(await folder(), 'a.txt')
  await writeFile(file, content)
  return ['train', '--home', home, '--name', name, '--data', file, '--steps', '1']
}

describe('flexmesh train refuses with one sentence', () => {
  it('a folder without text', async () => {
    const args = ['train', '--home', home, '--name', 'x', '--data', await folder()]
    expect(await refused(...args)).toContain('no text found')
  })

  it('a binary file', async () => {
    const binary = Buffer.from([0x7f, 0x45, 0x4c, 0x46, 0, 1, 2, 3, 0, 0, 0, 0])
    expect(await refused(...(await trainOn(binary)))).toContain('a.txt')
  })

  it('too little text, with how much was found and how much is needed', async () => {
    const sentence = 'The patient was seen in the clinic and sent home.\n'
    const args = await trainOn(sentence.repeat(4) + 'End of the notes. '.repeat(15))
    expect(await refused(...args)).toMatch(
      /too little text in .*a\.txt: \d+ tokens \(\d+ bytes\) to train on, at least 1024 tokens are needed/,
    )
  })

  it('text in an unknown encoding, with the offset and the command that converts it', async () => {
    const args = await trainOn(
      Buffer.concat([Buffer.from('déjà vu, '.repeat(99)), Buffer.from([0xff, 0x20])]),
    )
    expect(await refused(...args)).toMatch(
      /byte 0xFF at offset 1089 \(line 1\) is not valid UTF-8; convert it with "iconv -f ENCODING -t UTF-8/,
    )
  })

  it('a path that does not exist', async () => {
    const args = ['train', '--home', home, '--name', 'x', '--data', '/no/such/folder']
    expect(await refused(...args)).toContain('/no/such/folder')
  })

  it('other text for a training that was begun', async () => {
    const train = ['train', '--home', home, '--name', 'begun', '--steps', '1']
    const text = await shortText('archive')
    expect((await flexmesh(...train, '--data', text)).code).toBe(0)
    expect(await refused(...train, '--data', await shortText('university'))).toContain(text)
    expect((await flexmesh(...train, '--resume')).code).toBe(0)
  })

  it('to continue a training that was never begun', async () => {
    expect(await refused('train', '--home', home, '--name', 'never', '--resume')).toContain('--data')
  })
})

it('flexmesh train warns of doubtful text, on the screen and in the JSON', async () => {
  const lines = Array.from({ length: 300 }, (_, i) => `Пациент номер ${i} был осмотрен ${i % 28} числа.`)
  const train = await trainOn(Buffer.from(`\ufeff${lines.join('\n')}`, 'utf16le'), 'doubtful')
  const { code, stdout } = await flexmesh(...train, '--json')
  expect(code).toBe(0)
  const { warnings } = JSON.parse(stdout) as { warnings: { code: string; message: string }[] }
  const codes = ['encoding', 'little-text', 'unread-text', 'little-held-out', 'tokenizer']
  expect(warnings.map((warning) => warning.code)).toEqual(codes)
  const again = await flexmesh(...train)
  for (const { message } of warnings) expect(again.stdout).toContain(`warning: ${message}\n`)
  expect(again.stdout).toContain('bytes per token')
})

it('flexmesh init keeps the name of an institution in NFC, with single spaces', async () => {
  const path = join(await folder(), 'home')
  const { stdout } = await flexmesh(
    'init',
    '--institution',
    ' Ho\u0302pital   7 ',
    '--insecure',
    '--home',
    path,
  )
  expect(stdout).toMatch(/^H\u00f4pital 7 is 12D3/)
  const settings = JSON.parse(await readFile(join(path, 'settings.json'), 'utf8'))
  expect(settings).toMatchObject({ institution: 'H\u00f4pital 7' })
})

describe('a command is refused with one sentence for', () => {
  it('a dense model as an expert', async () => {
    const sentence = await refused('import-expert', SMALL_MODEL, '--name', 'dense', '--home', home)
    expect(sentence).toContain('config.json: expected model_type flex_olmo with num_experts 2')
  })

  it('an export into a folder that is not empty', async () => {
    const full = await folder()
    await writeFile(join(full, 'notes.txt'), 'mine')
    expect(await refused('compose', '--export', full, '--home', home)).toContain(`${full} is not empty`)
  })

  it('a folder that holds no model', async () => {
    const empty = await folder()
    const args = ['--home', await initialised(), '--public-model', empty, '--name', 'n']
    expect(await refused('consortium', 'create', ...args)).toContain(empty)
  })

  it('a home that does not exist', async () => {
    expect(await refused('experts', '--home', join(await folder(), 'nothing'))).toContain('flexmesh init')
  })

  it('a home that belongs to no consortium', async () => {
    expect(await refused('start', '--home', await initialised())).toContain('flexmesh join')
  })

  it('a passphrase file that does not exist', async () => {
    const file = join(await folder(), 'secret.txt')
    const args = ['init', '--home', join(await folder(), 'home'), '--institution', 'A']
    expect(await refused(...args, '--passphrase-file', file)).toContain(`${file} does not exist`)
  })

  it('a port of the API that is in use', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const { code, stderr } = await flexmesh('start', '--home', home, '--port', String(port))
    expect(code).toBe(1)
    expect(stderr).toMatch(/^flexmesh: [^\n]+\n$/)
    expect(stderr).toContain(`${port}`)
    server.close()
  })

  it('a port of the network that is in use', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const busy = await founded(undefined, `/ip4/127.0.0.1/tcp/${port}`)
    const { code, stderr } = await flexmesh('start', '--home', busy, '--port', '0')
    expect(code).toBe(1)
    expect(stderr).toMatch(/^flexmesh: [^\n]+\n$/)
    expect(stderr).toContain(`tcp/${port}`)
    expect(stderr).toContain('flexmesh start --listen ADDRESS --home ')
    const node = start('start', '--home', busy, '--port', '0', '--listen', '/ip4/127.0.0.1/tcp/0')
    await node.line('is up as')
    expect((await node.interrupt()).code).toBe(0)
    const again = start('start', '--home', busy, '--port', '0') // The address was stored.
    await again.line('is up as')
    expect((await again.interrupt()).code).toBe(0)
    server.close()
  })

  it('an address that is not one of this machine', async () => {
    const elsewhere = await founded(undefined, '/ip4/203.0.113.9/tcp/4001')
    const sentence = await refusedWithAnyCode('start', '--home', elsewhere, '--port', '0')
    expect(sentence).toContain('this machine does not have this address')
  })

  it.each([
    '127.0.0.1:4001',
    '/ip4/127.0.0.1/udp/4001',
    '/ip4/127.0.0.1/udp/4001/quic-v1',
    '/dns4/no-such-host.invalid/tcp/4001',
    '/ip4/999.0.0.1/tcp/4001',
    '/ip4/127.0.0.1/tcp/70000',
    '/ip4/127.0.0.1/tcp/x',
    '/ip4/127.0.0.1',
    '/unix/tmp/socket',
    '/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWPqT2nMDSiXUSx5D7fasaxhxKigVhcqfkKqrLghCq9jxz',
  ])('%s as an address to listen on, at init and at start', async (listen) => {
    const init = ['init', '--institution', 'A', '--insecure', '--home', join(await folder(), 'home')]
    for (const args of [init, ['start', '--home', home]]) {
      const sentence = await refusedWithAnyCode(...args, '--listen', listen)
      expect(sentence).toContain('--listen: expected /ip4/ADDRESS/tcp/PORT')
    }
  })

  it.each([
    ['Ward "7" <b>', '"\\"" in it'],
    ['Ward\n7', '"\\n" in it'],
    ['Ward \u202e7', 'in it'],
    ['-Ward', "starting with a dash use '--institution=-XYZ'"],
    ['(Ward)', '"(" in it'],
    [' ', 'nothing'],
    ['x'.repeat(101), ''],
  ])('the name %j of an institution, before a key exists', async (institution, found) => {
    const path = join(await folder(), 'home')
    const sentence = await refusedWithAnyCode(
      'init',
      '--institution',
      institution,
      '--insecure',
      '--home',
      path,
    )
    expect(sentence).toContain(found)
    expect((await flexmesh('init', '--institution', 'Ward 7', '--insecure', '--home', path)).code).toBe(0)
  })

  it('a name of an institution that somebody wrote into settings.json, before a charter has it', async () => {
    const path = await initialised()
    const settings = { institution: 'A "B"', listen: ['/ip4/127.0.0.1/tcp/0'], bootstrap: [], mdns: false }
    await writeFile(join(path, 'settings.json'), JSON.stringify(settings))
    const create = ['consortium', 'create', '--home', path, '--name', 'Test', '--public-model', SMALL_MODEL]
    expect(await refusedWithAnyCode(...create)).toContain('institution: expected')
    expect(await refusedWithAnyCode('members', '--home', path)).toContain('belongs to no consortium')
  })

  it.each(['N\u001b[31m', 'N\u202ex', 'x'.repeat(101), ' '])('the name %j of a consortium', async (name) => {
    const create = ['consortium', 'create', '--home', await initialised(), '--public-model', SMALL_MODEL]
    expect(await refusedWithAnyCode(...create, '--name', name)).toContain('--name: expected')
  })

  it.each([
    ['an empty file', '', 'no text found'],
    ['a program', '\u007fELF\u0000\u0001', 'is not text'],
  ])('%s as replay text, which the charter would hold for good', async (_, content, message) => {
    const replay = join(await folder(), 'replay.txt')
    await writeFile(replay, content)
    const create = ['consortium', 'create', '--home', await initialised(), '--name', 'Test']
    const sentence = await refused(...create, '--public-model', SMALL_MODEL, '--replay', replay)
    expect(sentence).toContain(message)
  })

  it('an export into a place that only the system writes, at once', async () => {
    for (const option of ['--export', '--export-onnx']) {
      const sentence = await refused('compose', '--home', home, option, '/proc/flexmesh/model')
      expect(sentence).toContain('cannot be created')
    }
  })

  it('addresses to listen on in settings.json that are none, while other addresses are skipped', async () => {
    const path = await founded()
    const settings = JSON.parse(await readFile(join(path, 'settings.json'), 'utf8'))
    await writeFile(join(path, 'settings.json'), JSON.stringify({ ...settings, bootstrap: ['garbage'] }))
    const node = start('start', '--home', path, '--port', '0')
    await node.line('is up as')
    expect((await node.interrupt()).stderr).toContain('addresses under "bootstrap" that cannot be read')
    await writeFile(join(path, 'settings.json'), JSON.stringify({ ...settings, listen: ['garbage'] }))
    expect(await refusedWithAnyCode('start', '--home', path)).toContain('got "garbage"')
  })

  it('a path with a null character', async () => {
    expect(await refusedWithAnyCode('members', '--home', 'a\0b')).toContain('null character')
  })

  it('an API key that is none', async () => {
    const path = await founded()
    await writeFile(join(path, 'api-key'), Buffer.from([0xff, 0xfe]))
    expect(await refusedWithAnyCode('start', '--home', path, '--port', '0')).toContain(
      'delete it to get a new key',
    )
  })

  it.each([
    ['no JSON', 'not json'],
    ['a field that is missing', '{"institution":"A","listen":[],"bootstrap":[]}'],
    ['a field of another type', '{"institution":"A","listen":[7],"bootstrap":[],"mdns":true}'],
    ['an unknown field', '{"institution":"A","listen":[],"bootstrap":[],"mdns":true,"port":1}'],
    ['nothing', ''],
  ])('a settings.json with %s, which it names', async (_, content) => {
    const broken = await initialised()
    await writeFile(join(broken, 'settings.json'), content)
    const sentence = await refusedWithAnyCode('start', '--home', broken)
    expect(sentence).toContain(`${join(broken, 'settings.json')}: `)
    expect(sentence).toContain('correct the file')
  })

  it('a second node on the same home', async () => {
    const node = start('start', '--home', home, '--port', '0')
    await node.line('is up as')
    expect(await refused('start', '--home', home, '--port', '0')).toContain(home)
    expect((await node.interrupt()).code).toBe(0)
  })
})
