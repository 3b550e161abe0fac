import Glibc
import RomulusCheck
import RomulusCore
import RomulusHost

/// One run on this host, as it answers on its socket.
struct Session {
    /// Bears the guest's UUID: names change.
    var socket: String
    var status: JSON

    /// As the guest is called now; a run says what it was called at its beginning.
    func presentName(among guests: [LocalGuest]) -> String? {
        let own = guests.first { RunLock.name(uuid: $0.uuid, .primary) == socket && !$0.isIncoming }
        return own?.name ?? status["guest"]?.text
    }

    /// A name that nobody bears any more is still that of the run that began with it.
    func isOf(_ name: String, among guests: [LocalGuest]) -> Bool {
        if presentName(among: guests) == name { return true }
        return status["guest"]?.text == name && !guests.contains { $0.name == name }
    }
}

/// What the sessions on this host say of themselves.
enum Sessions {
    /// - Parameter guest: of this guest only.
    static func statuses(of guest: String? = nil) throws -> [JSON] {
        let guests = Toolstack.guests()
        return try all().filter { session in guest.map { session.isOf($0, among: guests) } ?? true }.map { session in
            session.status.with("guest", session.presentName(among: guests).map { .string($0) } ?? .null)
        }
    }

    /// Asks the session of that guest, the primary's before the backup's.
    ///
    /// - Returns: nil where there is none.
    static func ask(_ request: AdminSocket.Request, of guest: String) throws(SystemError) -> String? {
        let guests = Toolstack.guests()
        // Known by what Xen tells: no other session needs to answer first.
        for one in guests where one.name == guest {
            if let answer = try AdminSocket.ask(request, of: RunLock.name(uuid: one.uuid, .primary)) { return answer }
        }
        let sessions = (try? all()) ?? []
        for side in [Side.primary, .backup] {
            for session in sessions where session.socket.hasSuffix(".\(side)") && session.isOf(guest, among: guests) {
                if let answer = try AdminSocket.ask(request, of: session.socket) { return answer }
            }
        }
        return nil
    }

    private static func all() throws -> [Session] {
        var found: [Session] = []
        for name in AdminSocket.names() {
            let answer: String?
            do throws(SystemError) { answer = try AdminSocket.ask(.status, of: name) } catch {
                // One that ends at this moment, or stands still.
                guard error.code == EACCES || error.code == EPERM else { continue }
                throw failure("\(error): must be root")
            }
            guard let status = answer.flatMap(JSON.init(parsing:)) else { continue }
            found.append(Session(socket: name, status: status))
        }
        return found
    }
}
