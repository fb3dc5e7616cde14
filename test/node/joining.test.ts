import { mkdirSync, rmSync } from 'node:fs'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { decodeInvite, encodeInvite } from '../../src/consortium/invite.ts'
import { keyDigest } from '../../src/consortium/key-history.ts'
import { Exchange } from '../../src/exchange/exchange.ts'
import { nextInstitutionKeyId } from '../../src/identity/institution-key.ts'
import { digestOf, utf8 } from '../../src/lib/bytes.ts'
import { ExchangeError } from '../../src/lib/errors.ts'
import { changeListenAddresses, initHome } from '../../src/node/found.ts'
import { joinConsortium } from '../../src/node/join.ts'
import { FlexMeshNode } from '../../src/node/node.ts'
import { homePaths, loadSettings } from '../../src/store/home.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { newHome } from '../support/homes.ts'
import { network, now, type TestNetwork } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

let net: TestNetwork
afterEach(async () => {
  vi.restoreAllMocks()
  await net.close()
  await cleanUp()
})

async function founder(): Promise<FlexMeshNode> {
  net = await network(['Hospital'], await tinyModel())
  return net.nodes[0] as FlexMeshNode
}

const never = new AbortController().signal

/** Resolves once a condition holds, which this process changes. */
async function until(condition: () => boolean): Promise<void> {
  await vi.waitUntil(condition, { timeout: 60_000, interval: 5 })
}

/** Restart the founder's node on a port that stays the same from then on. */
async function listenOnSamePort({ nodes, restart }: TestNetwork): Promise<void> {
  const [node] = nodes as [FlexMeshNode]
  const listen = node.addresses().map((address) => address.replace(/\/p2p\/.*/, ''))
  await restart(0, () => changeListenAddresses(node.paths.root, listen))
}

describe('joining a consortium', () => {
  it('waits for the approval of the members', async () => {
    const hospital = await founder()
    const home = await newHome('Archive')
    const stages = new Set<string>()
    await joinConsortium({ home, now }, await hospital.invite(), never, ({ stage }) => {
      stages.add(stage)
      if (stage === 'waiting') void hospital.approve('Archive')
    })
    expect([...stages]).toEqual(['charter', 'public-model', 'checking', 'waiting', 'member'])
    const members = hospital.membership.roster().members.map(({ institution }) => institution)
    expect(members).toEqual(['Hospital', 'Archive'])
  })

  it('commits the next key of an institution whose key lies outside of its home', async () => {
    const hospital = await founder()
    const file = join(await folder(), 'stick.key')
    const home = join(await folder(), 'home')
    const settings = { institution: 'Archive', listen: ['/ip4/127.0.0.1/tcp/0'], bootstrap: [], mdns: false }
    const inTheClear = { inTheClear: true } as const
    const { peerId } = await initHome(home, settings, inTheClear, { file, protection: inTheClear })
    await joinConsortium({ home, now }, await hospital.invite(), never, ({ stage }) => {
      if (stage === 'waiting') void hospital.approve('Archive')
    })
    const next = await nextInstitutionKeyId(file)
    expect(hospital.membership.keys.historyOf(peerId).current()).toEqual({
      key: peerId,
      next: keyDigest(next ?? ''),
    })
  })

  it('leaves no membership behind if it is interrupted, and can begin anew', async () => {
    const hospital = await founder()
    const home = await newHome('Archive')
    const invitation = await hospital.invite()
    const leaving = new AbortController()
    const first = joinConsortium({ home, now }, invitation, leaving.signal, ({ stage }) => {
      if (stage === 'waiting') leaving.abort()
    })
    await expect(first).rejects.toMatchObject({ code: 'aborted' })
    const opened = FlexMeshNode.open({ home, engine: hospital.engine, now })
    await expect(opened).rejects.toMatchObject({ code: 'not-a-member' })
    await hospital.approve('Archive')
    await joinConsortium({ home, now }, invitation, never, () => undefined)
    const archive = await FlexMeshNode.open({ home, engine: hospital.engine, now })
    expect(archive.membership.isMember(archive.identity.peerId)).toBe(true)
    await archive.close()
  })

  it.each(['unreachable', 'timeout'] as const)(
    'goes on waiting for the approval when the founder is out of reach (%s)',
    async (code) => {
      const hospital = await founder()
      const home = await newHome('Archive')
      const ask = vi.spyOn(Exchange.prototype, 'requestMembership')
      await joinConsortium({ home, now }, await hospital.invite(), never, ({ stage }) => {
        if (stage !== 'waiting') return
        ask.mockRejectedValueOnce(new ExchangeError(code, 'no answer'))
        void hospital.approve('Archive')
      })
      expect(ask).toHaveBeenCalledTimes(3)
      expect(hospital.membership.roster().members).toHaveLength(2)
    },
  )

  it('goes on waiting while the node of the founder restarts', async () => {
    await founder()
    await listenOnSamePort(net)
    const stages: string[] = []
    const invitation = await (net.nodes[0] as FlexMeshNode).invite()
    const init = { home: await newHome('Archive'), now, pollMs: 20 }
    let restarted: Promise<unknown> | undefined
    await joinConsortium(init, invitation, never, ({ stage }) => {
      if (stage !== 'public-model' && stage !== 'checking') stages.push(stage)
      if (stage === 'waiting') restarted = net.restart(0, () => until(() => stages.includes('away')))
      if (stage === 'back') void net.nodes[0]?.approve('Archive')
    })
    await restarted
    expect(stages).toEqual(['charter', 'waiting', 'away', 'back', 'member'])
  })

  it('warns of nothing however long it waits, and does not lock the home meanwhile', async () => {
    const hospital = await founder()
    const home = await newHome('Archive')
    const warnings: Error[] = []
    const onWarning = (warning: Error): void => void warnings.push(warning)
    process.on('warning', onWarning)
    const ask = vi.spyOn(Exchange.prototype, 'requestMembership')
    const init = { home, now, pollMs: 1 }
    const joining = joinConsortium(init, await hospital.invite(), never, () => undefined)
    await until(() => ask.mock.calls.length >= 25)
    const opened = FlexMeshNode.open({ home, engine: hospital.engine, now })
    await expect(opened).rejects.toMatchObject({
      code: 'not-a-member',
      message: expect.stringContaining('has applied for membership in "Test consortium"'),
    })
    await hospital.approve('Archive')
    await joining
    process.off('warning', onWarning)
    expect(warnings).toEqual([])
    const archive = await FlexMeshNode.open({ home, engine: hospital.engine, now })
    await archive.close()
  })

  it('ends when a founder rejects the request, and the home waits for nothing then', async () => {
    const hospital = await founder()
    const home = await newHome('Archive')
    const joining = joinConsortium({ home, now, pollMs: 10 }, await hospital.invite(), never, ({ stage }) => {
      if (stage === 'waiting') void hospital.membership.invitations.reject('Archive')
    })
    await expect(joining).rejects.toMatchObject({ code: 'refused' })
    const opened = FlexMeshNode.open({ home, engine: hospital.engine, now })
    await expect(opened).rejects.toMatchObject({
      message: expect.stringContaining('belongs to no consortium'),
    })
  })

  it('ends at once with an error that no later request can meet otherwise', async () => {
    const hospital = await founder()
    const ask = vi.spyOn(Exchange.prototype, 'requestMembership')
    const init = { home: await newHome('Archive'), now, pollMs: 1 }
    const joining = joinConsortium(init, await hospital.invite(), never, ({ stage }) => {
      if (stage === 'waiting')
        ask.mockRejectedValueOnce(new ExchangeError('refused', 'bad-field', { remote: 'bad-field' }))
    })
    await expect(joining).rejects.toMatchObject({ code: 'refused' })
    expect(ask).toHaveBeenCalledTimes(2)
  })

  it('leaves no membership behind if the settings cannot be written, and can begin anew', async () => {
    const hospital = await founder()
    const home = await newHome('Archive')
    const invitation = await hospital.invite()
    const { settings } = homePaths(home)
    const saved = await readFile(settings)
    const first = joinConsortium({ home, now }, invitation, never, ({ stage }) => {
      if (stage !== 'waiting') return
      rmSync(settings)
      mkdirSync(join(settings, 'in the way'), { recursive: true })
      void hospital.approve('Archive')
    })
    await expect(first).rejects.toThrow()
    await rm(settings, { recursive: true })
    await writeFile(settings, saved)
    await joinConsortium({ home, now }, invitation, never, () => undefined)
    const { bootstrap } = await loadSettings(homePaths(home))
    expect(bootstrap).toEqual(decodeInvite(invitation).addresses)
  })

  it('is refused with an invitation that another institution has used', async () => {
    const hospital = await founder()
    const invitation = await hospital.invite()
    await joinConsortium({ home: await newHome('Archive'), now }, invitation, never, ({ stage }) => {
      if (stage === 'waiting') void hospital.approve()
    })
    await hospital.invite() // Strangers can connect as long as some invitation is open.
    const second = joinConsortium(
      { home: await newHome('University'), now },
      invitation,
      never,
      () => undefined,
    )
    await expect(second).rejects.toMatchObject({ code: 'refused' })
  })

  it('is refused if the charter that is fetched is that of another consortium', async () => {
    const hospital = await founder()
    const invite = decodeInvite(await hospital.invite())
    const changed = encodeInvite({ ...invite, consortium: digestOf(utf8('other')) })
    const joining = joinConsortium({ home: await newHome('Archive'), now }, changed, never, () => undefined)
    await expect(joining).rejects.toMatchObject({ code: 'wrong-consortium' })
  })

  it.each([
    ['has expired', 30 * 86_400, 'usage'],
    ['is still good', 0, 'exists'],
  ])('of a member is refused although its invitation %s', async (_, ahead, code) => {
    const hospital = await founder()
    const home = net.homes[0] as string
    const invitation = await hospital.invite()
    await hospital.close()
    const again = joinConsortium({ home, now: () => now() + ahead }, invitation, never, () => undefined)
    await expect(again).rejects.toMatchObject({ code })
  })
})

describe('members', () => {
  it('connect to every other member, not only to the founder', async () => {
    net = await network(['Hospital', 'Archive', 'University'], await tinyModel())
    await net.connected()
    for (const node of net.nodes) expect(node.membership.roster().members).toHaveLength(3)
  })
})

describe('a second node with the same home', () => {
  it('is refused', async () => {
    const { engine, paths } = await founder()
    const second = FlexMeshNode.open({ home: paths.root, engine, now })
    await expect(second).rejects.toMatchObject({ code: 'home-in-use' })
  })
})
