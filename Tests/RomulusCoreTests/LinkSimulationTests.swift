import Testing

@testable import RomulusCore

/// A primary and a backup session over a simulated link with delays and a cut, on a simulated clock.
private struct SimulatedLink {
    enum Item: Equatable {
        case message(Message)
        case epoch(streamBytes: UInt64)
        case framesBegin
    }

    var random: Seeded
    var now = 0
    var primary: PrimarySession
    var backup: BackupSession
    var toBackup: [(at: Int, item: Item)] = []
    var toPrimary: [(at: Int, item: Item)] = []
    var cutAt: Int
    let longestDelay: Int
    var committed = Epoch.none
    var completeAtBackup = Epoch.none
    var violations: [String] = []
    var primaryEnd: PrimarySession.End?
    var backupEnd: BackupSession.End?
    var nextEpochAt = 20
    var isEpochOut = false

    init(seed: UInt64, cutAt: Int, longestDelay: Int) {
        random = Seeded(seed)
        self.cutAt = cutAt
        self.longestDelay = longestDelay
        let patience = Int64.nanoseconds(milliseconds: 5000)
        primary = PrimarySession(
            configuration: .init(patienceNanoseconds: patience, hasBackChannel: true), now: .milliseconds(0))
        backup = BackupSession(
            configuration: .init(detectTimeoutMilliseconds: 1000, patienceNanoseconds: patience), now: .milliseconds(0))
        perform(backup.handle(.announced(Announcement()), now: .milliseconds(0)))
    }

    private mutating func arrival(after last: Int?) -> Int {
        max(now + Int.random(in: 1...longestDelay, using: &random), last ?? 0)
    }

    private mutating func sendToBackup(_ item: Item) {
        guard now < cutAt else { return }
        toBackup.append((arrival(after: toBackup.last?.at), item))
    }

    mutating func perform(_ actions: [PrimarySession.Action]) {
        for action in actions {
            switch action {
            case .beginFrames:
                sendToBackup(.framesBegin)
                perform(primary.handle(.framesBegun, now: .milliseconds(now)))
            case .send(let message): sendToBackup(.message(message))
            case .commit(let epoch):
                if epoch > completeAtBackup { violations.append("epoch \(epoch.rawValue) committed, not complete") }
                committed = epoch
                isEpochOut = false
                nextEpochAt = now + Int.random(in: 1...400, using: &random)
            case .log: break
            case .end(let end): primaryEnd = end
            }
        }
    }

    mutating func perform(_ actions: [BackupSession.Action]) {
        for action in actions {
            switch action {
            case .send(let message):
                if now < cutAt { toPrimary.append((arrival(after: toPrimary.last?.at), .message(message))) }
                perform(backup.handle(.messageSent, now: .milliseconds(now)))
            case .log: break
            case .end(let end):
                backupEnd = end
                if case .failOver = end, backup.lastEpoch == .none { violations.append("failover without an epoch") }
            }
        }
        completeAtBackup = backup.lastEpoch
    }

    mutating func step() {
        now += 1
        while let first = toBackup.first, first.at <= now, first.at < cutAt {
            toBackup.removeFirst()
            perform(backup.handle(.heard, now: .milliseconds(now)))
            switch first.item {
            case .message(let message): perform(backup.handle(.received(message), now: .milliseconds(now)))
            case .epoch(let bytes): perform(backup.handle(.epochReceived(streamBytes: bytes), now: .milliseconds(now)))
            case .framesBegin: perform(backup.handle(.framesBegun(.first), now: .milliseconds(now)))
            }
        }
        while let first = toPrimary.first, first.at <= now, first.at < cutAt {
            toPrimary.removeFirst()
            perform(primary.handle(.heard, now: .milliseconds(now)))
            if case .message(let message) = first.item {
                perform(primary.handle(.received(message), now: .milliseconds(now)))
            }
        }
        if primary.isFramed, !isEpochOut, now >= nextEpochAt, !primary.hasEnded {
            isEpochOut = true
            sendToBackup(.epoch(streamBytes: 64))
            sendToBackup(.message(.epochEnd(committed.next, streamBytes: 64)))
            perform(primary.handle(.linkMoved, now: .milliseconds(now)))
            perform(primary.handle(.epochSent, now: .milliseconds(now)))
        }
        perform(primary.timePassed(now: .milliseconds(now)))
        perform(backup.timePassed(now: .milliseconds(now)))
    }
}

@Suite struct LinkSimulationTests {
    @Test func acrossRandomCutsNothingCommittedIsEverMissingAtTheBackup() {
        for seed in UInt64(0)..<400 {
            var random = Seeded(seed &+ 99)
            var link = SimulatedLink(
                seed: seed, cutAt: Int.random(in: 1...3000, using: &random), longestDelay: 60)
            while link.now < 9500, link.primaryEnd == nil || link.backupEnd == nil { link.step() }
            #expect(link.violations == [], "seed \(seed)")
            #expect(link.primaryEnd != nil && link.backupEnd != nil, "seed \(seed): a side never noticed the cut")
            guard case .failOver? = link.backupEnd else {
                #expect(link.committed == .none, "seed \(seed): discarded what had been committed")
                continue
            }
            #expect(link.completeAtBackup >= link.committed, "seed \(seed)")
        }
    }

    @Test func theSideThatHoldsOutputNoticesACutFirst() {
        for seed in UInt64(0)..<200 {
            var link = SimulatedLink(seed: seed, cutAt: 2000, longestDelay: 20)
            var primaryAt: Int?
            var backupAt: Int?
            while link.now < 4000 {
                link.step()
                if link.primaryEnd != nil, primaryAt == nil { primaryAt = link.now }
                if link.backupEnd != nil, backupAt == nil { backupAt = link.now }
            }
            #expect(primaryAt! < backupAt!, "seed \(seed)")
            #expect(backupAt! - 2000 <= 1000, "seed \(seed)")
        }
    }

    @Test func withoutACutNobodySuspectsAnybody() {
        for seed in UInt64(0)..<100 {
            var link = SimulatedLink(seed: seed, cutAt: .max, longestDelay: 300)
            while link.now < 5000 { link.step() }
            #expect(link.primaryEnd == nil && link.backupEnd == nil, "seed \(seed)")
            #expect(link.committed.rawValue >= 3, "seed \(seed)")
            #expect(link.violations == [])
        }
    }
}
