import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('../../', import.meta.url))

/** Paths in the package that `npm pack` would write. What `npm run build` writes is listed only once it is built. */
async function packedFiles(): Promise<string[]> {
  const args = ['pack', '--dry-run', '--ignore-scripts', '--json']
  const { stdout } = await promisify(execFile)('npm', args, { cwd: root, maxBuffer: 2 ** 26 })
  const [{ files }] = JSON.parse(stdout) as [{ files: { path: string }[] }]
  return files.map(({ path }) => path)
}

describe('the package', () => {
  it('holds the tools that users run, the public model, the specifications and the sample text', async () => {
    const files = await packedFiles()
    expect(files).toEqual(
      expect.arrayContaining([
        'scripts/distributed/train_pair.py',
        'scripts/distributed/pair_model.py',
        'scripts/distributed/pair_directory.py',
        'scripts/distributed/corpus.py',
        'scripts/distributed/requirements.txt',
        'scripts/serve/vllm.sh',
        'scripts/verify-bundle.py',
        'models/small/model.safetensors',
        'models/small/tokenizer.json',
        'protocols/README.md',
        'protocols/package-exchange/frames.cddl',
        'examples/hospital/PROVENANCE.md',
        'README.md',
        'LICENSE',
      ]),
    )
  })

  it('holds no tests, no benchmarks and no TypeScript', async () => {
    const files = (await packedFiles()).filter((path) => !path.startsWith('dist/'))
    const scripts = files.filter((path) => path.startsWith('scripts/'))
    expect(
      scripts.filter(
        (path) => !/^scripts\/(distributed\/[a-z_]+\.(py|txt)|serve\/|verify-bundle\.py$)/.test(path),
      ),
    ).toEqual([])
    expect(files.filter((path) => path.endsWith('.ts') || path.startsWith('test/'))).toEqual([])
  })
})
