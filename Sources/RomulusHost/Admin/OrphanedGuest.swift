import RomulusCore

/// A guest whose `xl remus` was killed: its copy was paused, and its output is still held.
public enum OrphanedGuest {
    /// Lets the output go its own way again, and then the guest.
    ///
    /// - Returns: false where there is no such guest.
    public static func resume(_ guest: String) -> Bool {
        guard let line = xl("domid", guest)?.output.split(separator: "\n").last, let domainID = UInt32(line) else {
            return false
        }
        (try? Leftovers(of: domainID, store: NetbufRecord(domainID: domainID).store))?.release(Log(guest: guest))
        return xl("unpause", guest) != nil
    }

    private static func xl(_ words: String...) -> Subprocess.Outcome? {
        let outcome = Subprocess.run(["xl"] + words, timeoutMilliseconds: 20_000)
        return outcome.status == 0 ? outcome : nil
    }
}
