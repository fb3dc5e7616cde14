import '../../src/lib/node20.ts'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { serviceUnit } from '../../src/cli/service-unit.ts'
import { flexmesh } from '../support/command-line.ts'
import { cleanUp, folder } from '../support/folders.ts'

afterEach(cleanUp)

const ANALYZE = '/usr/bin/systemd-analyze'

/** A home folder with a node. */
async function home(): Promise<string> {
  const dir = join(await folder(), 'home')
  const { code } = await flexmesh('init', '--home', dir, '--institution', 'Archive', '--insecure')
  expect(code).toBe(0)
  return dir
}

describe('the unit of a service', () => {
  it('is the file in ops/ for the usual places', async () => {
    const unit = serviceUnit({
      name: 'flexmesh',
      program: ['/usr/bin/env', 'flexmesh'],
      home: '/var/lib/flexmesh',
      passphraseFile: '/etc/flexmesh/passphrase',
    })
    expect(unit).toBe(await readFile('ops/flexmesh.service', 'utf8'))
  })

  it('quotes what systemd would split or expand', () => {
    const unit = serviceUnit({
      name: 'mesh-2',
      program: ['/usr/bin/node'],
      home: '/srv/a "b" 100% $HOME\\',
      user: '1000',
    })
    expect(unit).toContain('ExecStart=/usr/bin/node start --home "/srv/a \\"b\\" 100%% $$HOME\\\\"\n')
    expect(unit).toContain('ReadWritePaths="/srv/a \\"b\\" 100%% $$HOME\\\\"\n')
    expect(unit).toContain('User=1000\n')
    expect(unit).not.toContain('DynamicUser')
    expect(unit).not.toContain('LoadCredential')
  })

  it('may read a program or a home folder of a user', () => {
    const given = { name: 'flexmesh', program: ['/usr/bin/node'], user: 'ada' }
    expect(serviceUnit({ ...given, home: '/home/ada/.flexmesh' })).toContain('ProtectHome=read-only\n')
    expect(serviceUnit({ ...given, home: '/srv/flexmesh' })).toContain('ProtectHome=yes\n')
  })

  it.each(['', 'a b', '../x', 'X', 'a'.repeat(32), 'x\nExecStart=/bin/sh'])('has no name %j', (name) => {
    expect(() => serviceUnit({ name, program: ['/usr/bin/node'], home: '/srv/x' })).toThrow(/^name: expected/)
  })

  it.each(['/srv/a\nUser=root', '/srv/\u0000', '/srv/\u007f'])('does not name the path %j', (path) => {
    expect(() => serviceUnit({ name: 'a', program: ['/usr/bin/node'], home: path })).toThrow(/control/)
  })
})

describe('flexmesh service', () => {
  it('prints a unit that starts this program with this home folder', async () => {
    const dir = await home()
    const { code, stdout } = await flexmesh('service', 'print', '--home', dir, '--name', 'archive')
    expect(code).toBe(0)
    expect(stdout).toMatch(new RegExp(`main\\.[jt]s start --home ${dir}\n`))
    expect(stdout).toContain(`ReadWritePaths=${dir}\n`)
  })

  it.runIf(existsSync(ANALYZE))('prints a unit that systemd accepts and rates as hardened', async () => {
    const dir = await home()
    const passphrase = join(dir, 'words')
    await writeFile(passphrase, 'six quiet words of a passphrase\n')
    const units = await folder()
    const given = ['--home', dir, '--passphrase-file', passphrase, '--folder', units]
    await flexmesh('service', 'install', ...given)
    const unit = join(units, 'flexmesh.service')
    const program = await folder()
    // The program need not be built where the tests run, but systemd looks whether it exists.
    const text = (await readFile(unit, 'utf8')).replace(
      /^ExecStart=\S+ \S+/m,
      `ExecStart=${process.execPath}`,
    )
    const copy = join(program, 'flexmesh.service')
    await writeFile(copy, text)
    const run = (...argv: string[]): string => execFileSync(ANALYZE, argv, { stdio: 'pipe' }).toString()
    expect(run('verify', copy)).toBe('')
    const overall = /Overall exposure level for \S+: ([\d.]+)/.exec(
      run('security', '--offline=yes', '--no-pager', copy),
    )
    expect(Number(overall?.[1])).toBeLessThan(3)
  })

  it('writes the unit for everyone to read, once, and replaces another one only when told to', async () => {
    const dir = await home()
    const units = await folder()
    const install = (...more: string[]) =>
      flexmesh('service', 'install', '--home', dir, '--folder', units, ...more)
    const first = await install()
    expect(first).toMatchObject({ code: 0 })
    expect(first.stdout).toContain('systemctl daemon-reload && systemctl enable --now flexmesh')
    const file = join(units, 'flexmesh.service')
    expect((await stat(file)).mode & 0o777).toBe(0o644)
    expect(await install()).toMatchObject({ code: 0 })
    await writeFile(file, 'of an administrator')
    const refused = await install()
    expect(refused.code).not.toBe(0)
    expect(refused.stderr).toContain('exists and differs')
    expect(await readFile(file, 'utf8')).toBe('of an administrator')
    expect(await install('--replace')).toMatchObject({ code: 0 })
    expect(await readFile(file, 'utf8')).toContain('[Service]')
  })

  it('asks for a node first, unless systemd makes the home folder', async () => {
    const missing = await flexmesh('service', 'print', '--home', join(await folder(), 'none'))
    expect(missing.code).not.toBe(0)
    expect(missing.stderr).toContain('flexmesh init')
    const usual = await flexmesh('service', 'print', '--home', '/var/lib/archive', '--name', 'archive')
    expect(usual.stdout).toContain('StateDirectory=archive\n')
  })
})
