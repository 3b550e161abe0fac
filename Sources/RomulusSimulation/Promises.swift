import RomulusCore

/// The design's promises, held against a world from the outside.
struct Promises {
    private(set) var violations: [String] = []
    private var highestSeen: UInt64 = 0
    private var hasActivated = false
    private var wasThrownAway = false

    private mutating func fail(_ text: String, _ world: borrowing World) {
        violations.append("\(world.time / 1_000_000) ms: \(text)")
    }

    /// Output commit: what the world has seen, the backup knows.
    mutating func packetLeft(_ packet: Packet, _ world: borrowing World) {
        highestSeen = max(highestSeen, packet.counter)
        if hasActivated { fail("the old copy's packet \(packet.counter) left after the takeover", world) }
        guard world.primary.heldFor > .none, !world.primary.isReplicaRuledOut else { return }
        let known = world.primary.snapshots[Int(world.backup.session.lastEpoch.rawValue)]
        if packet.counter > known { fail("packet \(packet.counter) left, the backup has \(known)", world) }
    }

    /// What is committed is not kept from the world.
    mutating func released(_ epoch: Epoch, _ world: borrowing World) {
        guard let oldest = world.primary.plug.heldPackets.first else { return }
        if oldest.counter <= world.primary.snapshots[Int(epoch.rawValue)] {
            fail("packet \(oldest.counter) is still held although epoch \(epoch.rawValue) is committed", world)
        }
    }

    /// Nothing committed is lost, nothing seen is unknown, nothing is damaged.
    mutating func activated(_ world: borrowing World) {
        hasActivated = true
        let words = world.backup.activated ?? []
        let epoch = world.backup.session.lastEpoch
        let expected = world.primary.snapshots[Int(epoch.rawValue)]
        if words.isEmpty || words.contains(where: { $0 != expected }) {
            fail("the replica is not what the guest was at epoch \(epoch.rawValue)", world)
        }
        let state = words.max() ?? 0
        if state < highestSeen { fail("the world has seen \(highestSeen), the replica knows \(state)", world) }
        if epoch < world.primary.committed {
            fail("epoch \(world.primary.committed.rawValue) was committed, the replica has \(epoch.rawValue)", world)
        }
    }

    /// One active copy.
    mutating func check(_ world: borrowing World) {
        if world.primary.isActive, world.backup.isActive { fail("both copies run", world) }
        if isThrownAway(world), !wasThrownAway {
            wasThrownAway = true
            fail("the guest was thrown away on both hosts", world)
        }
    }

    /// The primary has given its copy up, which could run, and the backup, which is up, has none.
    private func isThrownAway(_ world: borrowing World) -> Bool {
        guard case .yields? = world.primary.end?.fate, world.primary.guest.canBeResumed else { return false }
        return world.backup.host.isUp && world.backup.end != nil && world.backup.activated == nil
    }

    /// After one failure, or none, the guest is where it should be; and whatever happened was said.
    mutating func checkEnd(_ world: borrowing World) {
        if world.primary.end != nil || world.primary.session.isFrozen, world.primary.lines == 0 {
            fail("the primary said nothing", world)
        }
        if world.backup.end != nil, world.backup.lines == 0 { fail("the backup said nothing", world) }
        checkFailedSave(world)
        guard world.happened.count <= 1, world.pending.isEmpty else { return }
        guard let fault = world.happened.first else {
            if world.primary.committed.rawValue < 5 { fail("no failure, and few epochs", world) }
            if world.primary.end != nil || world.backup.end != nil || world.primary.session.isFrozen {
                fail("suspicion without a failure", world)
            }
            return
        }
        let isAnywhere = world.primary.isActive || world.backup.isActive
        switch fault {
        case .guestShutsDown:
            if isAnywhere, world.primary.guest.hasShutDown { fail("a guest that has shut down runs", world) }
        case .guestCrashes:
            if world.primary.guest.hasCrashed, !world.primary.isGuestRestarted {
                fail("what on_crash says was not done", world)
            }
            if world.backup.isActive { fail("a copy from before the crash runs", world) }
        case .guestSavedAway:
            if world.backup.isActive { fail("a second copy of a guest that was saved", world) }
        case .backupIsAskedToStop:
            if !world.primary.isActive || world.primary.hasFrozen || !world.backup.host.isUp {
                fail("a backup that was asked to stop has cost more than protection", world)
            }
        case .primaryPowerCut where world.backup.session.lastEpoch == .none,
            .deviceModelKilled where world.backup.session.lastEpoch == .none,
            .adminDestroys where world.backup.session.lastEpoch == .none:
            break
        // What it had of the first epoch was lost with xl, and the guard could not know that.
        case .xlKilled where world.backup.session.lastEpoch == .none && world.primary.guest.freezes > 0: break
        default:
            // Where the backup is dead, or never had a whole epoch, and nobody can rule a replica out: that is said, and
            // left to the admin.
            let isAdmins =
                world.scenario.arbiter == .none && world.primary.session.isFrozen
                && (!world.backup.host.isUp || world.backup.end != nil || world.backup.session.lastEpoch == .none)
            if !isAnywhere, !isAdmins { fail("the guest runs nowhere", world) }
        }
    }

    /// Nothing is protected that nobody saves, and nothing goes on that has left.
    private mutating func checkFailedSave(_ world: borrowing World) {
        let primary = world.primary
        guard primary.host.isRunning, primary.isXlAlive else { return }
        if primary.hasSaveFailed, primary.end == nil, !primary.session.isFrozen {
            fail("the save has failed, and the guest counts as protected", world)
        }
        if primary.isLeaveSeen, primary.end == nil, !primary.session.isFrozen {
            fail("the guest has shut down, and the run goes on", world)
        }
        if primary.isLeaveSeen, case .goesOn? = primary.end?.fate { fail("a guest that has shut down goes on", world) }
    }
}
