import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { begin, flexmesh, kill, line, main } from '../support/command-line.ts'
import { cleanUp, EXAMPLES, folder, SMALL_MODEL } from '../support/folders.ts'

async function home(institution: string): Promise<string> {
  const dir = join(await folder(), 'home')
  await flexmesh(
    'init',
    '--home',
    dir,
    '--institution',
    institution,
    '--insecure',
    '--no-mdns',
    '--listen',
    '/ip4/127.0.0.1/tcp/0',
  )
  return dir
}

async function founder(): Promise<string> {
  const dir = await home('Hospital')
  const { code, stderr } = await flexmesh(
    'consortium',
    'create',
    '--home',
    dir,
    '--public-model',
    SMALL_MODEL,
    '--name',
    'Test',
  )
  expect([code, stderr]).toEqual([0, ''])
  return dir
}

afterAll(cleanUp)

describe('what goes wrong is said in one sentence', () => {
  let ready: string
  beforeAll(async () => {
    ready = await founder()
  })

  async function sentence(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await flexmesh(...args)
    expect(code).toBe(1)
    expect(stdout).toBe('')
    expect(stderr).toMatch(/^flexmesh: [^\n]+\n$/)
    return stderr
  }

  it('an empty data folder', async () => {
    expect(await sentence('train', '--home', ready, '--name', 'x', '--data', await folder())).toContain(
      'no text found',
    )
  })

  it('a binary file as text', async () => {
    const file = join(await folder(), 'a.txt')
    await writeFile(file, Buffer.from([0x7f, 0x45, 0x4c, 0x46, 0, 1, 2, 3, 0, 0, 0, 0]))
    expect(await sentence('train', '--home', ready, '--name', 'x', '--data', file)).toContain('a.txt')
  })

  it('too little text, with how much there is and how much is needed', async () => {
    const file = join(await folder(), 'a.txt')
    await writeFile(
      file,
      'The patient was seen in the clinic and sent home.\n'.repeat(4) + 'End of the notes. '.repeat(15),
    )
    expect(await sentence('train', '--home', ready, '--name', 'x', '--data', file)).toMatch(
      /too little text in .*a\.txt: \d+ tokens \(\d+ bytes\) to train on, at least 1024 tokens are needed/,
    )
  })

  it('text in an encoding that is not recognised, with the place and the way out', async () => {
    const file = join(await folder(), 'a.txt')
    await writeFile(file, Buffer.concat([Buffer.from('déjà vu, '.repeat(99)), Buffer.from([0xff, 0x20])]))
    expect(await sentence('train', '--home', ready, '--name', 'x', '--data', file)).toMatch(
      /byte 0xFF at offset 1089 is not valid UTF-8; convert it with "iconv -f ENCODING -t UTF-8/,
    )
  })

  it('and what is only doubtful is a warning, on the screen and in the JSON', async () => {
    const file = join(await folder(), 'a.txt')
    const lines = Array.from({ length: 300 }, (_, i) => `Пациент номер ${i} был осмотрен ${i % 28} числа.`)
    await writeFile(file, Buffer.from(`\ufeff${lines.join('\n')}`, 'utf16le'))
    const train = ['train', '--home', ready, '--name', 'russian', '--data', file, '--steps', '1']
    const { code, stdout } = await flexmesh(...train, '--json')
    expect(code).toBe(0)
    const { warnings } = JSON.parse(stdout) as { warnings: { code: string; message: string }[] }
    expect(warnings.map((warning) => warning.code)).toEqual([
      'encoding',
      'little-text',
      'little-held-out',
      'tokenizer',
    ])
    const again = await flexmesh(...train)
    for (const { message } of warnings) expect(again.stdout).toContain(`warning: ${message}\n`)
    expect(again.stdout).toContain('bytes per token')
  }, 120_000)

  it('other text for a training that was begun, and none for one that was not', async () => {
    const train = (...more: string[]): string[] => ['train', '--home', ready, '--steps', '1', ...more]
    const text = join(EXAMPLES, 'archive', 'text')
    expect((await flexmesh(...train('--name', 'begun', '--data', text))).code).toBe(0)
    const other = join(EXAMPLES, 'university', 'text')
    expect(await sentence(...train('--name', 'begun', '--data', other))).toContain(text)
    expect((await flexmesh(...train('--name', 'begun', '--resume'))).code).toBe(0)
    expect(await sentence(...train('--name', 'never', '--resume'))).toContain('--data')
  })

  it('a dense model as an expert, and a folder in the way of an export', async () => {
    const dense = await sentence('import-expert', SMALL_MODEL, '--name', 'x', '--home', ready)
    expect(dense).toContain('config.json: expected model_type flex_olmo with num_experts 2')
    const full = await folder()
    await writeFile(join(full, 'notes.txt'), 'mine')
    expect(await sentence('compose', '--export', full, '--home', ready)).toContain(`${full} is not empty`)
  })

  it('a path that does not exist', async () => {
    expect(await sentence('train', '--home', ready, '--name', 'x', '--data', '/no/such/folder')).toContain(
      '/no/such/folder',
    )
  })

  it('an unknown model directory', async () => {
    const other = await home('Other')
    const empty = await folder()
    expect(
      await sentence('consortium', 'create', '--home', other, '--public-model', empty, '--name', 'n'),
    ).toContain(empty)
  })

  it('a home that does not exist', async () => {
    expect(await sentence('experts', '--home', join(await folder(), 'nothing'))).toContain('flexmesh init')
  })

  it('a home that belongs to no consortium', async () => {
    expect(await sentence('start', '--home', await home('Lonely'))).toContain('flexmesh join')
  })

  it('a broken invitation', async () => {
    const { code, stderr } = await flexmesh('join', 'flexmesh-invite-1:abc', '--home', await home('Guest'))
    expect(code).toBe(2)
    expect(stderr).toMatch(/^flexmesh: invitation: [^\n]+\n$/)
  })

  it('a busy port', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as { port: number }
    expect(await sentence('start', '--home', ready, '--port', String(port))).toContain(String(port))
    const busy = join(await folder(), 'home')
    await flexmesh(
      'init',
      '--home',
      busy,
      '--institution',
      'Busy',
      '--insecure',
      '--no-mdns',
      '--listen',
      `/ip4/127.0.0.1/tcp/${port}`,
    )
    await flexmesh('consortium', 'create', '--home', busy, '--public-model', SMALL_MODEL, '--name', 'Test')
    expect(await sentence('start', '--home', busy, '--port', '0')).toContain(`tcp/${port}`)
    server.close()
  })

  it('a second node on the same home', async () => {
    const first = begin('start', '--home', ready, '--port', '0')
    try {
      await line(first, 'is up as')
      expect(await sentence('start', '--home', ready, '--port', '0')).toContain(ready)
    } finally {
      await kill(first)
    }
  })

  it('wrong usage ends with 2', async () => {
    for (const args of [
      ['fly'],
      ['train', '--home', ready],
      ['start', '--port', 'x', '--home', ready],
      ['start', '--upstream', 'http://127.0.0.1:9/v1', '--home', ready],
      ['start', '--upstream', 'ftp://host', '--upstream-composition', 'composition.json', '--home', ready],
      ['train', '--speed', '9'],
      ['generate', 'x', '--weights', 'int9', '--home', ready],
      ['start', '--router', 'trained', '--home', ready],
      ['compose', '--router', 'trained', '--home', ready],
    ]) {
      const { code, stderr } = await flexmesh(...args)
      expect([args, code]).toEqual([args, 2])
      expect(stderr).toMatch(/^flexmesh: [^\n]+\n$/)
    }
  })
})

describe('a node killed at any moment', () => {
  const TRAIN = [
    '--name',
    'law',
    '--data',
    join(EXAMPLES, 'archive', 'text'),
    '--steps',
    '60',
    '--threads',
    '2',
  ]

  it('goes on with its training, bit for bit', async () => {
    const whole = await founder()
    expect((await flexmesh('train', '--home', whole, ...TRAIN)).code).toBe(0)
    const cut = await founder()
    for (let i = 0; i < 3; i++) {
      const child = begin('train', '--home', cut, ...TRAIN)
      await moment(child, cut, i)
      await kill(child)
    }
    expect((await flexmesh('train', '--home', cut, ...TRAIN)).code).toBe(0)
    const result = (dir: string): Promise<string> =>
      readFile(join(dir, 'training', 'law', 'result.json'), 'utf8')
    expect(await result(cut)).toBe(await result(whole))
    const weights = (dir: string): Promise<Buffer> =>
      readFile(join(dir, 'training', 'law', 'checkpoint.safetensors'))
    expect((await weights(cut)).equals(await weights(whole))).toBe(true)
  }, 300_000)

  /** While the corpus is read; soon after the first checkpoint; soon after it was taken up again. */
  async function moment(child: ChildProcess, dir: string, which: number): Promise<void> {
    const ended = once(child, 'exit')
    const path = join(dir, 'training', 'law', which === 0 ? 'corpus' : 'checkpoint.safetensors')
    await Promise.race([exists(path), ended])
  }

  async function exists(path: string): Promise<void> {
    for (;;) {
      try {
        await readFile(path).catch((error: NodeJS.ErrnoException) => {
          if (error.code !== 'EISDIR') throw error
        })
        return
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    }
  }

  it('starts again with what it had, and publishes once', async () => {
    const dir = await founder()
    await flexmesh(
      'train',
      '--home',
      dir,
      '--name',
      'law',
      '--data',
      join(EXAMPLES, 'archive', 'text'),
      '--steps',
      '20',
    )
    for (let i = 0; i < 2; i++) {
      const child = begin('publish', 'law', '--home', dir)
      await new Promise((resolve) => setTimeout(resolve, 400 + 900 * i))
      await kill(child)
    }
    const node = begin('start', '--home', dir, '--port', '0')
    await line(node, 'is up as')
    await kill(node)
    const published = await flexmesh('experts', '--home', dir, '--json')
    const before = JSON.parse(published.stdout) as { composed: unknown[] }
    if (before.composed.length === 0) expect((await flexmesh('publish', 'law', '--home', dir)).code).toBe(0)
    const after = JSON.parse((await flexmesh('experts', '--home', dir, '--json')).stdout) as {
      composed: { name: string }[]
    }
    expect(after.composed.map(({ name }) => name)).toEqual(['law'])
    const { stdout, code } = await flexmesh(
      'generate',
      'Article',
      '--home',
      dir,
      '--json',
      '--max-tokens',
      '4',
    )
    expect(code).toBe(0)
    expect((JSON.parse(stdout) as { tokens: number }).tokens).toBe(4)
  }, 300_000)
})

describe('a full disk', () => {
  /** A limit on file size is what a process without rights can set; it fails writes as a full disk does. */
  async function cramped(...args: string[]): Promise<string> {
    const quoted = ['--import', 'tsx', main, ...args].map((arg) => `"${arg}"`).join(' ')
    const child = spawn('bash', ['-c', `ulimit -f 64; trap "" XFSZ; exec "${process.execPath}" ${quoted}`], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let stderr = ''
    child.stderr.on('data', (part: Buffer) => {
      stderr += part.toString()
    })
    const [code] = await once(child, 'exit')
    expect(code).toBe(1)
    expect(stderr).toMatch(/^flexmesh: [^\n]+\n$/)
    return stderr
  }

  it('is said in one sentence and loses nothing', async () => {
    const dir = await founder()
    const data = join(EXAMPLES, 'archive', 'text')
    await cramped('train', '--home', dir, '--name', 'x', '--data', data, '--steps', '5')
    expect((await flexmesh('members', '--home', dir)).code).toBe(0)
    // An export leaves no half of a folder.
    const parent = await folder()
    const target = join(parent, 'model')
    expect(await cramped('compose', '--home', dir, '--export', target)).toContain(
      `no space left to write ${target}`,
    )
    expect(await readdir(parent)).toEqual([])
    const { code, stdout } = await flexmesh('compose', '--home', dir, '--export', target, '--json')
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ experts: [], topK: 1, router: 'rows', directory: target })
    expect(await readdir(parent)).toEqual(['model'])
  }, 120_000)
})
