from ordersync_api.calls import Answer, Call
from ordersync_api.operations import Operations
from ordersync_api.shapes import MembershipList
from ordersync_core.administrations.ports import AdministrationQueries

operations = Operations("administration")


@operations.get("/v1/administrations", role=None, answers={200: MembershipList})
def list_administrations(call: Call) -> Answer:
    """The administrations that you are a member of: the names that X-Administration takes."""
    queries: AdministrationQueries = call.admin_queries()
    data = []
    for membership in queries.memberships_of(call.context.triggered_by):
        administration = queries.administration(membership.administration)
        if administration is not None:
            data.append({"code": administration.code, "name": administration.name, "role": membership.role.value})
    return Answer(body={"data": data, "next": None})
